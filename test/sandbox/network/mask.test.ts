import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { Mask, masked } from '../../../src/sandbox/network/mask.ts';
import { networkPolicy } from '../../../src/sandbox/network/policy.ts';
import { Secrets } from '../../../src/sandbox/network/secrets.ts';

const value = `it's <a>&"b" c+d/e=f(g)!`;

function formsOf(...values: string[]): Buffer[] {
  const secrets = values.map((value, i) => ({ name: `KEY_${i}`, value, hosts: ['api.test'] }));
  const policy = v.parse(networkPolicy, { allow: ['api.test'], secrets });
  const known = new Secrets(policy?.secrets ?? [], (name) => `berth-${name}`);
  return known.fill({ host: 'api.test', port: 443 }, { path: '/', headers: {} }).forms;
}

const bytes = Buffer.from(value);
test.each([
  ['Python’s quote', 'it%27s%20%3Ca%3E%26%22b%22%20c%2Bd/e%3Df%28g%29%21'],
  ['in lower case', 'it%27s%20%3ca%3e%26%22b%22%20c%2bd%2fe%3df%28g%29%21'],
  ['of a form', 'it%27s+%3Ca%3E%26%22b%22+c%2Bd%2Fe%3Df%28g%29%21'],
  ['encodeURIComponent', encodeURIComponent(value)],
  ['JSON', JSON.stringify(value).slice(1, -1)],
  ['PHP’s JSON', `it's <a>&\\"b\\" c+d\\/e=f(g)!`],
  ['Go’s JSON', `it's \\u003ca\\u003e\\u0026\\"b\\" c+d/e=f(g)!`],
  ['Go’s HTML', 'it&#39;s &lt;a&gt;&amp;&#34;b&#34; c&#43;d/e=f(g)!'],
  ['Python’s HTML', 'it&#x27;s &lt;a&gt;&amp;&quot;b&quot; c+d/e=f(g)!'],
  ['hexadecimal', bytes.toString('hex').toUpperCase()],
])('a secret is known again as it is written by %s', (_what, form) => {
  expect(masked(`<${form}>`, formsOf(value))).toBe(`<${'*'.repeat(form.length)}>`);
});

test('a secret is known again within anything in Base64', () => {
  for (const before of ['', 'a', 'ab', 'abc']) {
    const text = Buffer.from(`${before}${value}xyz`).toString('base64');
    const got = Buffer.from(masked(text, formsOf(value)).replaceAll('*', 'A'), 'base64').toString('latin1');
    // Of the bytes at its ends a part may be left.
    expect(got).not.toContain(value.slice(1, 5));
    expect(got).not.toContain(value.slice(-5, -1));
  }
});

test('of secrets that overlap nothing is left, whatever the cuts', async () => {
  const forms = formsOf('abcdefgh', 'cdefghijkl', 'abcdefghijklmn', 'hhhhhhhh');
  expect(masked('-abcdefghijkl-abcdefghijklmn-hhhhhhhhh-', forms)).toBe(
    `-${'*'.repeat(12)}-${'*'.repeat(14)}-${'*'.repeat(9)}-`,
  );
  const part = fc.constantFrom('abcdefgh', 'cdefghijkl', 'ijklmn', 'hhhhh', 'abc', 'x');
  await fc.assert(
    fc.asyncProperty(fc.array(part), fc.array(fc.nat(60)), async (parts, cuts) => {
      const all = Buffer.from(parts.join(''));
      const at = [0, ...cuts.map((cut) => Math.min(cut, all.length)).sort((a, b) => a - b), all.length];
      const pieces = at.slice(1).map((to, i) => all.subarray(at[i], to));
      const got = await buffer(Readable.from(pieces).pipe(new Mask(forms)));
      expect(got.toString()).toBe(masked(all.toString(), forms));
    }),
  );
});
