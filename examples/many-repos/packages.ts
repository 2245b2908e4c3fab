const old = "export const encode = (text) => new Buffer(text).toString('base64');\n";
const fresh = "export const encode = (text) => Buffer.from(text).toString('base64');\n";
const test =
  "import assert from 'node:assert';\nimport { encode } from './index.js';\n\nassert.equal(encode('berth'), 'YmVydGg=');\n";

const names = ['api', 'auth', 'billing', 'cli', 'docs', 'events', 'legacy', 'mail', 'search', 'web'];

/** Ten small packages by the paths of their files: one is as it should be, the others are not. */
export const packages: Readonly<Record<string, string>> = Object.fromEntries(
  names.flatMap((name) => [
    [`packages/${name}/package.json`, `${JSON.stringify({ name, type: 'module' })}\n`],
    [`packages/${name}/index.js`, name === 'docs' ? fresh : old],
    [`packages/${name}/test.js`, test],
  ]),
);
