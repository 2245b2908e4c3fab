import fc from 'fast-check';
import { expect, test } from 'vitest';
import { answer, readQuestion } from '../../../sandbox-agent/network/dns.ts';

/** A query of a resolver for one name. */
function query(name: string, type = 1): Buffer {
  const labels = name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label, 'latin1')]));
  return Buffer.concat([
    Buffer.from('1234010000010000000000 00'.replaceAll(' ', ''), 'hex'),
    ...labels,
    Buffer.of(0, 0, type, 0, 1),
  ]);
}

test('reads a question, and answers it with an address, without one, or that there is no such name', () => {
  const question = readQuestion(query('API.test'));
  expect(question).toMatchObject({ id: 0x1234, name: 'api.test', type: 'A' });
  expect(readQuestion(query('api.test', 28))?.type).toBe('AAAA');
  expect(readQuestion(query('api.test', 16))?.type).toBe('other');
  if (!question) throw new Error('it was read');
  const found = answer(question, 'NOERROR', { address: '127.64.0.1', ttl: 60 });
  expect(found.subarray(0, 8).toString('hex')).toBe('1234858000010001');
  // The question as it was asked, then a record that points to its name.
  expect(found.toString('latin1', 12, 22)).toBe('\x03API\x04test\0');
  expect(found.subarray(-16).toString('hex')).toBe('c00c000100010000003c00047f400001');
  expect(answer(question, 'NOERROR').subarray(0, 8).toString('hex')).toBe('1234858000010000');
  expect(answer(question, 'NXDOMAIN').subarray(0, 8).toString('hex')).toBe('1234858300010000');
});

test('takes any bytes for a question or for none', () => {
  const whole = query('a.long-name.of-several.labels.test');
  for (let length = 0; length < whole.length; length++) expect(readQuestion(whole.subarray(0, length))).toBeUndefined();
  const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      const question = readQuestion(bytes);
      if (question) expect(answer(question, 'NXDOMAIN').length).toBe(12 + question.bytes.length);
    }),
    { numRuns: 5_000 },
  );
});

test('does not answer an answer, nor what asks for several things or points to itself', () => {
  const [response, several, pointer] = [query('a.test'), query('a.test'), query('a.test')];
  response.writeUInt16BE(0x8180, 2);
  several.writeUInt16BE(2, 4);
  pointer.writeUInt16BE(0xc00c, 12);
  for (const message of [response, several, pointer]) expect(readQuestion(message)).toBeUndefined();
});
