import type { EndReason } from '../src/protocol/lifetime.ts';
import { trimHeap } from './kernel.ts';

const ticks = 10;
const maxTickMs = 5_000;
/**
 * So long after the last request a sandbox-agent with much memory gives back what it does not use: nobody who runs one
 * command after the other meets a collection between two of them.
 */
const collectMs = 3_000;
/** In V8's hands, in bytes. */
const muchMemory = 16 * 1024 * 1024;
/**
 * ... and every other one. What V8 has compiled goes as well, and the next commands take half as long again: a model that
 * thinks of the next one for some seconds is not to meet that each time.
 */
const tidyMs = 60_000;

/**
 * Ends the sandbox when nothing was done in it for a time, and when it has lived for a time. Here and not in the host,
 * so that it holds when no host runs.
 */
export class Lifetime {
  readonly #idleMs: number | undefined;
  readonly #end: (reason: EndReason) => void;
  #active = 0;
  #timer: NodeJS.Timeout | undefined;
  #tidying: NodeJS.Timeout | undefined;

  constructor(times: { idleMs: number | undefined; lifetimeMs: number | undefined }, end: (reason: EndReason) => void) {
    this.#idleMs = times.idleMs;
    this.#end = end;
    if (times.lifetimeMs !== undefined) setTimeout(() => end('expired'), times.lifetimeMs);
    this.#rest();
  }

  /** The sandbox is not idle until `work` is over. */
  async during<Result>(work: Promise<Result>): Promise<Result> {
    this.#active += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#tidying);
    try {
      return await work;
    } finally {
      this.#active -= 1;
      if (this.#active === 0) this.#rest();
    }
  }

  /**
   * In pieces: the clock goes on while the sandbox is paused, and a timer then fires as soon as it is resumed. Each counts
   * for its own length, however late it is.
   */
  #rest(): void {
    this.#tidying = setTimeout(() => {
      const { heapTotal, external } = process.memoryUsage();
      if (heapTotal + external > muchMemory) giveMemoryBack();
      else this.#tidying = setTimeout(giveMemoryBack, tidyMs - collectMs);
    }, collectMs);
    const idleMs = this.#idleMs;
    if (idleMs === undefined) return;
    const tickMs = Math.min(Math.ceil(idleMs / ticks), maxTickMs);
    const wait = (leftMs: number) => {
      this.#timer = setTimeout(
        () => (leftMs > tickMs ? wait(leftMs - tickMs) : this.#end('idle')),
        Math.min(leftMs, tickMs),
      );
    };
    wait(idleMs);
  }
}

/**
 * Most sandboxes wait most of the time, and V8 collects when it needs room, not when there is time. What was loaded and
 * compiled for the start alone is a sixth of all that the sandbox-agent has.
 */
function giveMemoryBack(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  trimHeap();
}
