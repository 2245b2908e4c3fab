import { rename } from 'node:fs/promises';
import { type Socket as Connection, createConnection, createServer } from 'node:net';
import { join } from 'node:path';

/** Takes the place of a sandbox-agent's socket, and cuts what goes through it. */
export interface CuttingProxy extends AsyncDisposable {
  /** How often a connection was cut. */
  readonly cuts: number;
  /** How many there were. */
  readonly connections: number;
  /** The connections that are there pass nothing on any more, and stay open. */
  hang(): void;
  /** While true, new connections are refused; those that are there are cut. */
  refuse(refused: boolean): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * @param next - bytes, both ways together, after which the connection is cut; `undefined` for never
 */
export async function cutWire(
  stateDir: string,
  sandboxId: string,
  next: () => number | undefined,
): Promise<CuttingProxy> {
  const directory = join(stateDir, 'wire', sandboxId);
  const path = join(directory, 'agent.sock');
  const behind = join(directory, 'behind.sock');
  await rename(path, behind);
  const open = new Set<() => void>();
  let cuts = 0;
  let connections = 0;
  const passing = new Set<Connection>();
  let refused = false;
  const server = createServer((near) => {
    const far = createConnection(behind);
    connections++;
    passing.add(near).add(far);
    let left = refused ? 0 : (next() ?? Number.POSITIVE_INFINITY);
    const end = () => {
      open.delete(end);
      passing.delete(near);
      passing.delete(far);
      near.destroy();
      far.destroy();
    };
    open.add(end);
    const pass = (from: Connection, to: Connection) => {
      from.on('error', end).on('close', end);
      to.on('drain', () => from.resume());
      from.on('data', (bytes) => {
        if (!passing.has(from)) return;
        const come = bytes.subarray(0, left);
        left -= bytes.length;
        if (left > 0) {
          if (!to.write(come)) from.pause();
          return;
        }
        if (open.has(end)) cuts++;
        open.delete(end);
        // The part of it that still comes through.
        from.pause();
        to.write(come, end);
      });
    };
    if (left === 0) return end();
    pass(near, far);
    pass(far, near);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    get cuts() {
      return cuts;
    },
    get connections() {
      return connections;
    },
    hang() {
      passing.clear();
    },
    refuse(value) {
      refused = value;
      if (refused) for (const end of [...open]) end();
    },
    async [Symbol.asyncDispose]() {
      for (const end of [...open]) end();
      await new Promise((resolve) => server.close(resolve));
      await rename(behind, path);
    },
  };
}

/** The same numbers for the same seed: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
