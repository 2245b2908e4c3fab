import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pass } from 'node:timers/promises';
import { expect } from 'vitest';
import { encodeFrame, type Frame } from '../../src/protocol/frame.ts';
import { encodeRecord } from '../../src/protocol/records.ts';
import { socketName } from '../../src/protocol/socket.ts';
import type { OpenedHost } from '../support/sandbox-fixture.ts';
import type { Order, Report } from './flooded-host.ts';
import { LyingAgent } from './lying-agent.ts';
import type { Lie, LyingWire } from './lying-wire.ts';

/** Says `what` again and again, as fast as the host takes it. */
async function flood(wire: LyingWire, what: Uint8Array): Promise<void> {
  const together = Buffer.concat(Array(Math.ceil(65_536 / what.length)).fill(what));
  while (await wire.drained()) wire.send(together);
}

/** As `flood`, of one stream and with what that is granted. */
async function floodGranted(wire: LyingWire, stream: number, payload: Uint8Array): Promise<void> {
  const count = Math.ceil(65_536 / payload.length);
  const together = Buffer.concat(Array(count).fill(bytes({ kind: 'data', stream, payload })));
  while ((await wire.granted(stream, count * payload.length)) && (await wire.drained())) wire.send(together);
}

const bytes = (frame: Frame) => Buffer.concat(encodeFrame(frame));

/** Lies at the first frame of this kind, in place of it. */
function at(kind: Frame['kind'], lie: (wire: LyingWire, stream: number) => Promise<void> | void): Lie {
  return (honest, _, wire) => {
    if (honest.kind !== kind) return wire.say(honest);
    return lie(wire, 'stream' in honest ? honest.stream : 0);
  };
}

const record = (value: unknown) => at('data', (wire, stream) => floodGranted(wire, stream, encodeRecord(value)));

interface Flood {
  call: string;
  lie: Lie;
  /** The call ends by itself, with an error that says this. */
  ends?: string;
}

/** What a sandbox-agent may do without end to a host that makes this call. */
const floods: Record<string, Flood> = {
  'frames that are due an ack, to one who does not read it': {
    call: 'readdir',
    lie: at('end', (wire, stream) => {
      wire.say({ kind: 'end', stream });
      wire.deafen();
      return flood(wire, bytes({ kind: 'credit', stream, bytes: 1 }));
    }),
  },
  'pings, to one who does not read the answers': {
    call: 'readdir',
    lie: at('data', async (wire) => {
      wire.deafen();
      while (await wire.drained()) for (let count = 0; count < 100; count++) wire.ping();
    }),
  },
  'a file in pieces of one byte': {
    call: 'readFile',
    lie: at('data', (wire, stream) => floodGranted(wire, stream, Buffer.from('x'))),
  },
  'output in pieces of one byte': {
    call: 'exec',
    lie: at('data', (wire, stream) => floodGranted(wire, stream, Buffer.from('x'))),
  },
  'output that nobody reads': {
    call: 'spawn and not read',
    lie: at('data', (wire, stream) => floodGranted(wire, stream, Buffer.from('x'))),
  },
  'messages of WebSocket with nothing in them': {
    call: 'readdir',
    lie: at('data', async (wire) => {
      while (await wire.drained()) wire.raw(Buffer.alloc(65_536, Buffer.from([0x82, 0])));
    }),
  },
  'news of memory that are none': {
    call: 'exec that tells of memory',
    lie: (honest, _, wire) => (isOf(honest, 'process.exited') ? undefined : wire.say(honest)),
  },
  'a connection that breaks whenever it is joined': {
    call: 'readdir',
    lie: at('data', (wire) => wire.break({ answer: 'resumed', shift: 0, times: Number.POSITIVE_INFINITY })),
  },
  'names of a directory': {
    call: 'readdir with stats',
    ends: 'EOVERFLOW',
    lie: record({ name: '\u00e9'.repeat(2_000), stats: { ...stats(), linkTarget: '\u00e9'.repeat(2_000) } }),
  },
  'names of a directory that is read bit by bit': { call: 'entries', lie: record({ name: 'x' }) },
  'changes of a directory': { call: 'watch', lie: record({ type: 'change', path: 'x', directory: false }) },
  'lines that match': {
    call: 'grep',
    ends: 'more was found',
    lie: record({ path: 'x'.repeat(4_096), line: 1, text: 'x' }),
  },
  'a record without an end': {
    call: 'watch',
    ends: 'a record that is too long',
    lie: at('data', (wire, stream) => floodGranted(wire, stream, Buffer.alloc(60_000, ' '))),
  },
};

function stats() {
  return { kind: 'symlink', size: 1, mode: 0, uid: 1, gid: 1, accessedMs: 1, modifiedMs: 1, changedMs: 1 };
}

function isOf(frame: Frame, type: string): boolean {
  return frame.kind === 'message' && Buffer.from(frame.payload).includes(`"${type}"`);
}

/** Of memory: what a host may need for one sandbox, about, its garbage included. */
const mostGrowth = 100 * 1024 * 1024;

/**
 * Does all of `floods` to a host in a process of its own, each for `ms`; one that ends by itself is waited for, for
 * `patienceMs` at most.
 */
export async function floodAll(
  { host, stateDir }: OpenedHost,
  { ms, patienceMs }: { ms: number; patienceMs: number },
): Promise<void> {
  const [liar, honest] = [await host.create(), await host.create()];
  await Promise.all([liar.close(), honest.close()]);
  await using agent = await LyingAgent.listen(join(stateDir, 'wire', liar.id, socketName));
  const child = fork(join(import.meta.dirname, 'flooded-host.ts'), [stateDir, liar.id, honest.id], {
    execArgv: ['--import', 'tsx'],
  });
  const order = (what: Order) => child.send(what);
  const next = async (): Promise<Report> => (await once(child, 'message'))[0];
  const flood = async (call: string, lie: Lie, forMs: number) => {
    agent.startAnew(lie);
    const over = next();
    const since = performance.now();
    order({ call });
    await Promise.race([over, pass(forMs, undefined, { ref: false })]);
    const perSecond = (1_000 * Math.max(agent.joined, agent.asked)) / (performance.now() - since);
    order('measure');
    const report = await over.then(next);
    if (typeof report === 'string') throw new Error(`the host says ${report}`);
    return { ...report, perSecond };
  };
  try {
    await next();
    let most = (await flood('many exec at once', (frame, _, wire) => wire.say(frame), ms)).rssBytes; // without a lie
    for (const [what, { call, lie, ends }] of Object.entries(floods)) {
      const { rssBytes, honestCalls, perSecond, outcome, stray } = await flood(call, lie, ends ? patienceMs : ms);
      const mostBefore = most;
      most = Math.max(most, rssBytes);
      expect(most - mostBefore, what).toBeLessThan(mostGrowth);
      expect(outcome, what).toMatch(ends ?? /^WireClosedError: /);
      expect(stray, what).toEqual([]);
      expect(honestCalls, what).toBeGreaterThan(0);
      // What it joins and asks again and again it does slowly.
      if (!ends) expect(perSecond, what).toBeLessThan(30);
    }
  } finally {
    order('end');
    await once(child, 'exit');
  }
}
