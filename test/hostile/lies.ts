import fc from 'fast-check';
import { encodeFrame, type Frame } from '../../src/protocol/frame.ts';
import { limits } from '../../src/protocol/limits.ts';
import type { Lie, LyingWire, Rejoining } from './lying-wire.ts';
import { type LyingEntry, lyingTar, tarOf } from './tars.ts';

/** A lie that can be written down: in place of what is said at `at`, or with it. */
export type LieSpec = { at: number } & Deed;

type Deed =
  /** JSON in it with one value replaced, taken away or put beside. `place` picks which. */
  | { kind: 'bend'; place: number; how: 'replace' | 'remove' | 'add'; value: unknown }
  | { kind: 'flip'; byte: number; bits: number }
  | { kind: 'header'; field: 'kind' | 'stream' | 'length'; value: number }
  | { kind: 'cut' | 'grow'; bytes: number }
  | { kind: 'drop' | 'hold' | 'stall' | 'close' | 'text' }
  | { kind: 'pieces'; bytes: number }
  | { kind: 'repeat'; times: number }
  | { kind: 'insert'; frame: 'data' | 'end' | 'credit' | 'reset' | 'cancel'; stream: number; bytes: number }
  | { kind: 'answer'; type: string; requestId: number }
  | { kind: 'garbage'; bytes: Uint8Array; beneath: boolean }
  /** The same payload, as often as the host takes it. */
  | { kind: 'endless'; mebibytes: number; unasked: boolean }
  | { kind: 'pings'; count: number }
  /** In place of an archive, wherever that comes. */
  | { kind: 'tar'; entries: LyingEntry[] }
  /** Reads no more from here on. */
  | { kind: 'deafen' }
  /** The transport breaks, and to the host that joins it again this is said. */
  | ({ kind: 'break' } & Rejoining);

const number = fc.constantFrom(-1, 0, 1, 2, 3, 7, 255, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, 1e308, 0.5);

const value = fc.oneof(
  number,
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    '/',
    '..',
    '../../x',
    'a/b',
    '\0',
    'constructor',
    '__proto__',
    'x'.repeat(70_000),
  ),
  fc.constantFrom<unknown>([], {}, [[[[]]]], { toString: 1 }, Array(2_000).fill(0), { __proto__: null, length: 1e9 }),
  fc.jsonValue({ maxDepth: 2 }),
);

const deed: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('bend' as const),
      place: fc.nat(40),
      how: fc.constantFrom('replace', 'replace', 'remove', 'add'),
      value,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('flip' as const),
      byte: fc.nat(2_000),
      bits: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('header' as const),
      field: fc.constantFrom('kind', 'stream', 'length'),
      value: fc.oneof(fc.nat(12), fc.constantFrom(2 ** 31, 2 ** 32 - 1, limits.data, limits.message + 1)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('cut' as const, 'grow' as const),
      bytes: fc.integer({ min: 1, max: 600_000 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('drop' as const, 'hold' as const, 'stall' as const, 'close' as const, 'text' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pieces' as const), bytes: fc.integer({ min: 1, max: 50 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('repeat' as const), times: fc.constantFrom(2, 3, 3_000) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('insert' as const),
      frame: fc.constantFrom('data', 'end', 'credit', 'reset', 'cancel'),
      stream: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(99, 2 ** 32 - 1)),
      bytes: fc.constantFrom(1, 100, limits.data, limits.window),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('answer' as const),
      type: fc.constantFrom(
        'ok',
        'error',
        'process.started',
        'process.exited',
        'fs.stat',
        'fs.target',
        'fs.found',
        'fs.watching',
        'memory.kills',
        'welcome',
        'resumed',
        'hello',
        'refused',
        'ping',
      ),
      requestId: fc.oneof(fc.integer({ min: 0, max: 4 }), number),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('garbage' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 200 }),
      beneath: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('endless' as const),
      mebibytes: fc.constantFrom(1, 4),
      unasked: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pings' as const), count: fc.constantFrom(1, 1_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('tar' as const), entries: lyingTar }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('deafen' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('break' as const),
      answer: fc.constantFrom('resumed', 'resumed', 'resumed', 'unknown_connection', 'refused', 'welcome'),
      shift: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: -3, max: 3 }), number),
      times: fc.constantFrom(0, 0, 1, 20),
    }),
  },
);

/** Most lies come early: there are few things to say in most conversations, of which the first two are the handshake. */
const at = fc.oneof(
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 1 }) },
  { weight: 6, arbitrary: fc.integer({ min: 2, max: 9 }) },
  { weight: 1, arbitrary: fc.integer({ min: 2, max: 60 }) },
);

export const lieSpecs: fc.Arbitrary<LieSpec[]> = fc.array(
  fc.tuple(at, deed).map(([at, deed]) => ({ at, ...deed })),
  { maxLength: 3 },
);

/** Tells these lies, and else the truth. */
export function teller(specs: readonly LieSpec[]): Lie {
  const held: Frame[] = [];
  let stalls = false;
  return async (honest, at, wire) => {
    const [spec, ...further] = specs.filter((one) => (one.kind === 'tar' ? isTar(honest) : one.at === at));
    if (stalls) return;
    if (!spec) wire.say(honest);
    else stalls = await tell(spec, honest, wire, held);
    if (spec?.kind === 'hold') return;
    for (const frame of held.splice(0)) wire.say(frame);
    for (const one of further) stalls ||= await tell(one, honest, wire, held);
  };
}

/** @returns whether nothing is to follow */
async function tell(spec: LieSpec, honest: Frame, wire: LyingWire, held: Frame[]): Promise<boolean> {
  const bytes = Buffer.concat(encodeFrame(honest));
  switch (spec.kind) {
    case 'bend':
      wire.say(bend(honest, spec));
      return false;
    case 'flip': {
      const at = spec.byte % bytes.length;
      bytes.writeUInt8(bytes.readUInt8(at) ^ spec.bits, at);
      wire.send(bytes);
      return false;
    }
    case 'header':
      if (spec.field === 'kind') bytes.writeUInt8(spec.value & 0xff, 0);
      else bytes.writeUInt32BE(spec.value, spec.field === 'stream' ? 1 : 5);
      wire.send(bytes);
      return false;
    case 'cut':
      wire.send(bytes.subarray(0, Math.max(1, bytes.length - spec.bytes)));
      return false;
    case 'grow':
      wire.send(Buffer.concat([bytes, Buffer.alloc(spec.bytes, 'x')]));
      return false;
    case 'drop':
      return false;
    case 'hold':
      held.push(honest);
      return false;
    case 'stall':
      return true;
    case 'close':
      wire.close();
      return true;
    case 'text':
      wire.send(bytes.toString('latin1'));
      return false;
    case 'pieces':
      for (let at = 0; at < bytes.length; at += spec.bytes) wire.send(bytes.subarray(at, at + spec.bytes));
      return false;
    case 'repeat':
      for (let time = 0; time < spec.times; time++) wire.say(honest);
      return false;
    case 'insert':
      wire.say(frameOf(spec));
      wire.say(honest);
      return false;
    case 'answer':
      wire.say(answerOf(spec));
      wire.say(honest);
      return false;
    case 'garbage':
      if (spec.beneath) wire.raw(spec.bytes);
      else wire.send(spec.bytes);
      return false;
    case 'endless':
      await goOn(spec, honest, wire);
      return false;
    case 'tar':
      wire.say(isTar(honest) ? { ...honest, payload: tarOf(spec.entries) } : honest);
      return false;
    case 'deafen':
      wire.deafen();
      wire.say(honest);
      return false;
    case 'break':
      wire.break(spec);
      return false;
    case 'pings':
      for (let count = 0; count < spec.count; count++) wire.ping();
      wire.say(honest);
      return false;
  }
}

function isTar(frame: Frame): frame is Extract<Frame, { kind: 'data' }> {
  return frame.kind === 'data' && Buffer.from(frame.payload).toString('latin1', 257, 262) === 'ustar';
}

async function goOn({ mebibytes, unasked }: { mebibytes: number; unasked: boolean }, honest: Frame, wire: LyingWire) {
  const frame = Buffer.concat(encodeFrame(honest));
  const count = Math.ceil(65_536 / frame.length);
  for (let left = mebibytes * 16; left > 0; left--) {
    const grants = honest.kind === 'data' && !unasked;
    if (grants && !(await wire.granted(honest.stream, count * honest.payload.length))) return;
    if (!(await wire.drained())) return;
    wire.send(Buffer.concat(Array(count).fill(frame)));
  }
}

function frameOf({ frame, stream, bytes }: Extract<Deed, { kind: 'insert' }>): Frame {
  switch (frame) {
    case 'data':
      return { kind: 'data', stream, payload: Buffer.alloc(bytes, 'x') };
    case 'end':
      return { kind: 'end', stream };
    case 'credit':
      return { kind: 'credit', stream, bytes };
    case 'reset':
      return { kind: 'reset', stream, reason: 'reset' };
    case 'cancel':
      return { kind: 'reset', stream, reason: 'cancelled' };
  }
}

/** Of a right form only for some types. */
function answerOf({ type, requestId }: Extract<Deed, { kind: 'answer' }>): Frame {
  const more: Record<string, object> = {
    error: { code: 'ENOENT', message: 'a lie' },
    'process.started': { processId: 'p_2', pid: 8 },
    'fs.target': { target: '' },
    'fs.found': { total: 2 ** 53 - 1, truncated: true },
    'memory.kills': { kills: 2 ** 53 - 1 },
  };
  return { kind: 'message', payload: Buffer.from(JSON.stringify({ type, requestId, ...more[type] })) };
}

/** The frame with another value somewhere in its JSON; as it is when it has none. */
function bend(frame: Frame, { place, how, value }: Extract<Deed, { kind: 'bend' }>): Frame {
  if (frame.kind !== 'message' && frame.kind !== 'data') return frame;
  let root: unknown;
  try {
    root = JSON.parse(Buffer.from(frame.payload).toString());
  } catch {
    return frame;
  }
  const places: [object, string][] = [];
  const walk = (node: unknown) => {
    if (typeof node !== 'object' || node === null) return;
    for (const [key, child] of Object.entries(node)) {
      places.push([node, key]);
      walk(child);
    }
  };
  walk(root);
  const [parent, key] = places[place % places.length] ?? [{}, ''];
  if (how === 'remove') Reflect.deleteProperty(parent, key);
  else Reflect.set(parent, how === 'add' ? `${key}2` : key, value);
  const text = JSON.stringify(root) + (frame.kind === 'data' ? '\n' : '');
  return { ...frame, payload: Buffer.from(text).subarray(0, limits.data) };
}
