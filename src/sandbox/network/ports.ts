import { setTimeout as wait } from 'node:timers/promises';
import { SandboxDiedError } from '../errors.ts';
import { requestError } from '../request-error.ts';
import type { Wire } from '../wire.ts';

/** A port of a sandbox at which a server listens. */
export interface OpenPort {
  /** For `expose`. */
  port: number;
  /** What the server is bound to; of several the first of these. */
  address: '127.0.0.1' | '0.0.0.0' | '::1' | '::';
}

/** A server began to listen, or listens no more. */
export interface PortChange {
  /** For `expose`. */
  port: number;
  /** What it is now. */
  state: 'open' | 'closed';
}

/** A watch that nobody ends is over after this. */
const waitMs = 30_000;
/** A sandbox-agent that answers at once, again and again, must not keep the host busy. */
const pauseMs = 50;
/** After a connection that could not be made. */
const retryMs = 1_000;

/** The ports at which servers listen, the lowest first; at most 1,024. */
export async function openPorts(wire: Wire): Promise<OpenPort[]> {
  try {
    return (await wire.call({ type: 'network.ports', waitMs: 1 }, 'network.listening')).ports;
  } catch (error) {
    throw requestError(error, 'list its ports');
  }
}

/**
 * Tells of the ports that are open, and then of each that opens or closes, over all ends and starts of the sandbox: with
 * a sandbox that ends all of them close.
 * @param follow - tells when the sandbox may have started or ended, until what it returns is called
 */
export async function watchPorts(
  { connect, follow }: { connect: () => Promise<Wire>; follow: (onChange: () => void) => () => void },
  signal: AbortSignal,
  tell: (change: PortChange) => void,
): Promise<void> {
  let known: number[] = [];
  const become = (now: number[]) => {
    const [before, after] = [new Set(known), new Set(now)];
    known = now;
    for (const port of before) if (!after.has(port)) tell({ port, state: 'closed' });
    for (const port of after) if (!before.has(port)) tell({ port, state: 'open' });
  };
  let hasChanged = false;
  let wake = () => {};
  const onChange = () => {
    hasChanged = true;
    wake();
  };
  const unfollow = follow(onChange);
  signal.addEventListener('abort', onChange, { once: true });
  while (!signal.aborted) {
    hasChanged = false;
    try {
      const wire = await connect();
      for (;;) {
        const { ports } = await wire.call({ type: 'network.ports', known, waitMs }, 'network.listening', signal);
        if (signal.aborted) break;
        become(ports.map(({ port }) => port));
        await wait(pauseMs);
      }
    } catch (error) {
      if (signal.aborted) break;
      const isDead = error instanceof SandboxDiedError;
      if (isDead) become([]);
      if (hasChanged) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
        // Of a start the engine tells; what else is in the way may go without a word.
        if (!isDead) setTimeout(resolve, retryMs).unref();
      });
    }
  }
  unfollow();
}
