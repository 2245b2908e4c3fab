import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WireProtocolError } from '../../src/protocol/errors.ts';
import { encodeFrame, type Frame, FrameDecoder } from '../../src/protocol/frame.ts';
import { frameHeaderBytes, limits } from '../../src/protocol/limits.ts';

const numRuns = Number(process.env.FUZZ_RUNS ?? 500);

const stream = fc.integer({ min: 1, max: 0xffff_ffff });
const payload = fc.uint8Array({ minLength: 1, maxLength: 40 });
const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ kind: fc.constant('message' as const), payload: fc.uint8Array({ maxLength: 40 }) }),
  fc.record({ kind: fc.constant('data' as const), stream, payload }),
  fc.record({ kind: fc.constant('end' as const), stream }),
  fc.record({ kind: fc.constant('credit' as const), stream, bytes: fc.integer({ min: 1, max: limits.window }) }),
  fc.record({
    kind: fc.constant('reset' as const),
    stream,
    reason: fc.constantFrom('reset' as const, 'cancelled' as const, 'gone' as const),
  }),
  fc.record({ kind: fc.constant('ack' as const), frames: fc.integer({ min: 1, max: 0xffff_ffff }) }),
);
const frames = fc.array(frame, { maxLength: 12 });
const bytesOf = (list: Frame[]) => Buffer.concat(list.flatMap(encodeFrame));

/** Valid frames with some bytes changed, put in or taken away. */
const mutated = fc
  .tuple(
    frames,
    fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.constantFrom('set', 'insert', 'remove')), {
      minLength: 1,
      maxLength: 4,
    }),
  )
  .map(([list, changes]) => {
    const bytes = Array.from(bytesOf(list));
    for (const [at, value, how] of changes) {
      const index = bytes.length === 0 ? 0 : at % bytes.length;
      if (how === 'set') bytes[index] = value;
      else if (how === 'insert') bytes.splice(index, 0, value);
      else bytes.splice(index, 1);
    }
    return Uint8Array.from(bytes);
  });

interface Decoded {
  frames: Frame[];
  error: string | undefined;
}

/** What comes out of the bytes, cut at these places; payloads are copied, so that equal bytes are equal. */
function decode(bytes: Uint8Array, cuts: number[]): Decoded {
  const decoder = new FrameDecoder();
  const decoded: Frame[] = [];
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  try {
    let from = 0;
    for (const to of [...places, bytes.length]) {
      for (const one of decoder.push(bytes.subarray(from, to))) {
        decoded.push('payload' in one ? { ...one, payload: Uint8Array.from(one.payload) } : one);
      }
      from = to;
    }
    decoder.end();
    return { frames: decoded, error: undefined };
  } catch (error) {
    expect(error).toBeInstanceOf(WireProtocolError);
    const { reason } = (error as WireProtocolError).meta;
    // An error stays: no later bytes are taken for frames.
    expect(() => [...decoder.push(bytesOf([{ kind: 'end', stream: 1 }]))]).toThrow(reason);
    return { frames: decoded, error: reason };
  }
}

const cuts = fc.array(fc.nat(), { maxLength: 30 });
const everyByte = Array.from({ length: 2_100 }, (_, index) => index);

describe('FrameDecoder', () => {
  test.for([
    ['any bytes', fc.uint8Array({ maxLength: 2_000 })],
    [
      'bytes that begin like frames',
      fc
        .array(fc.tuple(fc.nat(6), fc.uint8Array({ minLength: 8, maxLength: 30 })), { maxLength: 10 })
        .map((parts) => Uint8Array.from(parts.flatMap(([kind, rest]) => [kind, ...rest]))),
    ],
    ['valid frames', frames.map(bytesOf)],
    ['valid frames that were changed', mutated],
  ] as [string, fc.Arbitrary<Uint8Array>][])(
    'gives the same frames or the same error for %s, whatever the cuts',
    ([, bytes]) => {
      fc.assert(
        fc.property(bytes, cuts, (input, places) => {
          const whole = decode(input, []);
          expect(decode(input, places)).toEqual(whole);
          expect(decode(input, everyByte)).toEqual(whole);
        }),
        { numRuns },
      );
    },
  );

  test('gives back the frames that were encoded', () => {
    fc.assert(
      fc.property(frames, cuts, (list, places) => {
        const expected = list.map((one) =>
          'payload' in one ? { ...one, payload: Uint8Array.from(one.payload) } : one,
        );
        expect(decode(bytesOf(list), places)).toEqual({ frames: expected, error: undefined });
      }),
      { numRuns },
    );
  });

  test('takes the largest of everything, and nothing larger', () => {
    const message = (bytes: number) => bytesOf([{ kind: 'message', payload: new Uint8Array(bytes) }]);
    const data = (bytes: number) => bytesOf([{ kind: 'data', stream: 1, payload: new Uint8Array(bytes) }]);
    expect(decode(message(limits.message), []).error).toBeUndefined();
    expect(decode(data(limits.data), []).error).toBeUndefined();
    // The header alone is refused: nothing is reserved for what would follow.
    expect(decode(message(limits.message + 1).subarray(0, frameHeaderBytes), []).error).toContain('a message of');
    expect(decode(data(limits.data + 1).subarray(0, frameHeaderBytes), []).error).toContain('a data frame of');
  });

  test('uses memory again that was given back, and no other', () => {
    const decoder = new FrameDecoder();
    const next = (value: number, length = limits.data) => {
      const payload = new Uint8Array(length).fill(value);
      const [frame] = decoder.push(bytesOf([{ kind: 'data', stream: 1, payload }]));
      return frame && 'payload' in frame ? frame.payload : expect.fail('there is no frame');
    };
    const [kept, given] = [next(1), next(2)];
    decoder.recycle(given);
    const third = next(3);
    expect(third.buffer).toBe(given.buffer);
    expect(third.every((byte) => byte === 3)).toBe(true);
    // It is given back once, and used once.
    expect(next(4).buffer).not.toBe(third.buffer);
    expect(kept.every((byte) => byte === 1)).toBe(true);
    // What is of another length, or a part of something.
    decoder.recycle(third);
    expect(next(5, limits.data - 1)).toHaveLength(limits.data - 1);
    decoder.recycle(kept.subarray(1));
    decoder.recycle(kept.subarray(0, 20_000));
    expect(next(6).buffer).not.toBe(kept.buffer);
  });

  test.for<[what: string, bytes: number[]]>([
    ['an unknown kind', [7, 0, 0, 0, 1, 0, 0, 0, 0]],
    ['kind 0', [0, 0, 0, 0, 1, 0, 0, 0, 0]],
    ['a message on a stream', [1, 0, 0, 0, 1, 0, 0, 0, 0]],
    ['data without a stream', [2, 0, 0, 0, 0, 0, 0, 0, 1, 0]],
    ['empty data', [2, 0, 0, 0, 1, 0, 0, 0, 0]],
    ['an end with a payload', [3, 0, 0, 0, 1, 0, 0, 0, 1, 0]],
    ['a grant of nothing', [4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0]],
    ['a grant of more than a window', [4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 32, 0, 1]],
    ['a grant of the wrong length', [4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 1]],
    ['a reset with an unknown reason', [5, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 3]],
    ['an ack of nothing', [6, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]],
    ['an ack on a stream', [6, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1]],
    ['an ack of the wrong length', [6, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1]],
    ['bytes that end inside a header', [3, 0, 0]],
    ['bytes that end inside a payload', [2, 0, 0, 0, 1, 0, 0, 0, 2, 7]],
  ])('refuses %s', ([, bytes]) => {
    expect(decode(Uint8Array.from(bytes), []).error).toBeDefined();
    expect(decode(Uint8Array.from(bytes), everyByte)).toEqual(decode(Uint8Array.from(bytes), []));
  });
});
