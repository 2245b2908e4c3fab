import { createHash } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
/** What is made of which source; the first goes into each sandbox-agent, the other only where a terminal is opened. */
const bundles = [
  { source: 'sandbox-agent/main.ts', file: join(root, 'dist/sandbox-agent.cjs') },
  { source: 'sandbox-agent/pty/screen-thread.ts', file: join(root, 'dist/sandbox-agent-screen.cjs') },
];

/** The terms of what others wrote and is in them: a copy must come with these. */
const licenses = join(root, 'dist/sandbox-agent-licenses.txt');

/**
 * Makes the files of which the sandbox-agent consists, unless those there are made of the same sources: their first lines
 * say of which.
 * @param {import('./progress.js').Progress} progress
 */
export async function bundleAgent(progress) {
  const mark = `// ${await hashSources()}\n`;
  const files = [...bundles.map(({ file }) => file), licenses];
  const starts = await Promise.all(files.map((file) => readStart(file, mark.length)));
  if (starts.every((start) => start === mark)) return;
  progress.step('Bundling the sandbox-agent');
  const { build } = await import('esbuild');
  await mkdir(join(root, 'dist'), { recursive: true });
  /** @type {Set<string>} */
  const packages = new Set();
  for (const { source, file } of bundles) {
    const { outputFiles, metafile } = await build({ ...options, entryPoints: [join(root, source)] });
    await replace(file, mark + outputFiles[0]?.text);
    for (const input of Object.keys(metafile.inputs)) {
      const [found] = /^node_modules\/(@[^/]+\/)?[^/]+/.exec(input) ?? [];
      if (found) packages.add(found);
    }
  }
  const terms = await Promise.all([...packages].sort().map(termsOf));
  await replace(licenses, mark + terms.join('\n'));
}

/**
 * Whole or not at all: another process may be reading the one before.
 * @param {string} file
 * @param {string} text
 */
async function replace(file, text) {
  const part = `${file}.${process.pid}.part`;
  await writeFile(part, text);
  await rename(part, file);
}

/** @param {string} folder - of a package */
async function termsOf(folder) {
  const { name, version, license } = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
  const own = (await readdir(join(root, folder))).find((file) => /^licen[cs]e/i.test(file));
  // Its packages come without.
  const file = own ? join(folder, own) : name.startsWith('@xterm/') ? 'scripts/xterm-license.txt' : undefined;
  if (!file)
    throw new Error(`${name} comes without its license (${license}): say in scripts/agent-bundle.js where it is.`);
  const text = await readFile(join(root, file), 'utf8');
  return `${name} ${version} (${license})\n\n${text.trim()}\n\n${'-'.repeat(80)}\n`;
}

/** @type {import('esbuild').BuildOptions & { write: false, metafile: true }} */
const options = {
  bundle: true,
  write: false,
  metafile: true,
  absWorkingDir: root,
  platform: 'node',
  target: 'node26',
  format: 'cjs',
  // Small, but with the names that a stack trace shows.
  minifyWhitespace: true,
  minifySyntax: true,
  keepNames: false,
  // All of it is in a file of its own.
  legalComments: 'none',
  logLevel: 'warning',
};

/** The sources, the packages in them (by the lock file) and this file, which has the options. */
async function hashSources() {
  const hash = createHash('sha256');
  const files = ['package-lock.json', 'scripts/agent-bundle.js', 'src/errors.ts'];
  for (const folder of ['sandbox-agent', 'src/protocol']) {
    for (const name of await readdir(join(root, folder), { recursive: true })) {
      if (name.endsWith('.ts')) files.push(join(folder, name));
    }
  }
  for (const file of files.sort()) hash.update(`${file}\0`).update(await readFile(join(root, file)));
  return hash.digest('hex');
}

/**
 * @param {string} path
 * @param {number} length
 */
async function readStart(path, length) {
  const file = await open(path).catch(() => undefined);
  try {
    return (await file?.read({ buffer: Buffer.alloc(length) }))?.buffer.toString();
  } finally {
    await file?.close();
  }
}
