import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Masker } from '../../../src/runtime/events/masker.ts';

const key = 'sk-0123456789abcdef';

function knowing(...secrets: string[]): Masker {
  const masker = new Masker();
  masker.add(...secrets);
  return masker;
}

test('masks a secret wherever it stands, in names and in JSON within JSON too', () => {
  const quoted = 'pass "word" \\ of\n16';
  const masker = knowing(key, quoted);
  const value = { [key]: 1, list: [`a ${key}${key}`, { quoted }], input: JSON.stringify({ quoted }), n: 7 };
  const masked = {
    '<masked>': 1,
    list: ['a <masked><masked>', { quoted: '<masked>' }],
    input: '{"quoted":"<masked>"}',
    n: 7,
  };
  expect(masker.value(value)).toEqual(masked);
  expect(JSON.parse(masker.json(JSON.stringify(value)))).toEqual(masked);
  expect(Object.isFrozen(masker.value(value).list)).toBe(true);
});

test('masks the same in the JSON of a value as in the value', () => {
  const secret = 'pass "word" \\ of\n16';
  const masker = knowing(secret);
  const value = { result: JSON.stringify({ log: JSON.stringify({ secret }) }) };
  expect(masker.value(value)).not.toEqual(value);
  expect(JSON.parse(masker.json(JSON.stringify(value)))).toEqual(masker.value(value));
});

test('gives back what holds no secret as it is, numbers that look like one too', () => {
  const masker = knowing('1234567890123');
  const value = { at: 1234567890123, text: 'nothing' };
  expect(masker.value(value)).toBe(value);
  expect(masker.json(JSON.stringify(value))).toBe(JSON.stringify(value));
  expect(new Masker().value(value)).toBe(value);
});

test('leaves what is shorter than 12 characters, and knows variables and headers by their names', () => {
  const masker = knowing('postgres', '12345678901');
  expect(masker.text('postgres 12345678901')).toBe('postgres 12345678901');
  masker.addNamed({
    OPENAI_API_KEY: 'a-key-of-the-environment',
    'x-api-key': 'a-key-in-a-header',
    Authorization: 'Bearer a-token-in-a-header',
    NODE_ENV: 'a-long-environment',
    EMPTY_TOKEN: undefined,
  });
  const text = 'a-key-of-the-environment a-key-in-a-header a-token-in-a-header Bearer a-long-environment';
  expect(masker.text(text)).toBe('<masked> <masked> <masked> Bearer a-long-environment');
});

test('masks secrets that overlap as one, and what its parent comes to know', () => {
  const parent = new Masker();
  const masker = new Masker(parent);
  masker.add('abcdefghijkl');
  parent.add('ijklmnopqrstuvwx');
  expect(masker.text('1abcdefghijklmnopqrstuvwx2 abcdefghijkl ijklmnopqrstuvwx')).toBe('1<masked>2 <masked> <masked>');
});

test('in a text that comes in pieces, however it is cut, the same is masked, and nothing of a secret is told before', () => {
  const secrets = ['aabaabaabaab', 'abaabbbbbbbbb', 'baabaabaabaabaaba'];
  const masker = knowing(...secrets);
  const text = fc
    .array(fc.oneof(fc.constantFrom(...secrets), fc.constantFrom('a', 'b', 'aab', 'x')), { maxLength: 12 })
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, fc.array(fc.nat(60), { maxLength: 10 }), (whole, cuts) => {
      let told = '';
      let rest = '';
      let from = 0;
      for (const to of [...cuts.sort((a, b) => a - b), whole.length]) {
        const [sure, open] = masker.split(rest + whole.slice(from, Math.max(from, to)));
        told += sure;
        rest = open;
        from = Math.max(from, to);
      }
      expect(told + masker.text(rest)).toBe(masker.text(whole));
    }),
    { numRuns: 1_000 },
  );
});
