import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WireProtocolError } from '../../src/protocol/errors.ts';
import { limits } from '../../src/protocol/limits.ts';
import { decodeRecords, encodeRecord } from '../../src/protocol/records.ts';

async function* cut(bytes: Uint8Array, cuts: number[]) {
  const places = [...new Set(cuts.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const to of [...places, bytes.length]) {
    if (to > from) yield bytes.subarray(from, to);
    from = to;
  }
}

async function decode(bytes: Uint8Array, cuts: number[]) {
  const records: unknown[] = [];
  try {
    for await (const record of decodeRecords(cut(bytes, cuts), (line) => Buffer.from(line).toString('latin1'))) {
      records.push(record);
    }
    return { records, error: undefined };
  } catch (error) {
    expect(error).toBeInstanceOf(WireProtocolError);
    return { records, error: String(error) };
  }
}

const cuts = fc.array(fc.nat(), { maxLength: 20 });

describe('decodeRecords', () => {
  test('gives back what was encoded, whatever the cuts', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue(), { maxLength: 10 }), cuts, async (values, places) => {
        const bytes = Buffer.concat(values.map(encodeRecord));
        const records: unknown[] = [];
        for await (const record of decodeRecords(cut(bytes, places), (line) =>
          JSON.parse(Buffer.from(line).toString()),
        )) {
          records.push(record);
        }
        expect(records).toEqual(JSON.parse(JSON.stringify(values)));
      }),
    );
  });

  test('gives the same lines or the same error for any bytes, whatever the cuts', async () => {
    const bytes = fc.array(fc.constantFrom(0, 10, 65, 255), { maxLength: 60 }).map((list) => Uint8Array.from(list));
    await fc.assert(
      fc.asyncProperty(bytes, cuts, async (input, places) => {
        expect(await decode(input, places)).toEqual(await decode(input, []));
      }),
    );
  });

  test('refuses a line that is too long as soon as it is, also when its end never comes', async () => {
    const line = (length: number) => Buffer.concat([Buffer.alloc(length, 'x'), Buffer.from('\n')]);
    expect((await decode(line(limits.record), [1, 2, 3])).error).toBeUndefined();
    expect((await decode(line(limits.record + 1), [])).error).toContain('too long');
    expect((await decode(line(limits.record + 1), [5, 60_000])).error).toContain('too long');
    let taken = 0;
    const endless = (async function* () {
      for (; ; taken += 1_000) yield Buffer.alloc(1_000, 'x');
    })();
    await expect(decodeRecords(endless, String).next()).rejects.toThrow('too long');
    expect(taken).toBeLessThanOrEqual(limits.record);
  });

  test('refuses a stream that ends inside a record', async () => {
    expect(await decode(Buffer.from('one\ntwo'), [])).toEqual({
      records: ['one'],
      error: expect.stringContaining('ends inside a record'),
    });
  });

  test('leaves the event loop its turns, however many have come', async () => {
    let turns = 0;
    const count = setInterval(() => (turns += 1), 0);
    const bytes = Buffer.concat(Array.from({ length: 20 }, (_, index) => encodeRecord(index)));
    const records: string[] = [];
    for await (const record of decodeRecords(cut(bytes, []), (line) => Buffer.from(line).toString())) {
      for (const end = performance.now() + 5; performance.now() < end; ); // work
      records.push(record);
    }
    clearInterval(count);
    expect(records).toEqual(Array.from({ length: 20 }, (_, index) => String(index)));
    expect(turns).toBeGreaterThan(5);
  });
});
