import { abortError } from '../../errors.ts';
import { WireProtocolError } from '../../protocol/errors.ts';
import { type FsChange, fsChange } from '../../protocol/fs.ts';
import { parser } from '../../protocol/messages.ts';
import type { WireStream } from '../../protocol/mux.ts';
import { decodeRecords } from '../../protocol/records.ts';
import { requestError } from '../request-error.ts';
import type { Wire } from '../wire.ts';

const parseChange = parser(fsChange);

/**
 * What happened to a file or directory; its path is absolute. `create`, also of what was moved here from where nothing is
 * watched. `change`: of the content, the permissions or the times. `remove`, also of what was moved away. `overflow`: there
 * was more than could be kept, and anything may have changed.
 */
export type Change =
  | { type: 'create' | 'change' | 'remove'; path: string; directory: boolean }
  | { type: 'rename'; from: string; path: string; directory: boolean }
  | { type: 'overflow' };

interface Opened {
  wire: Wire;
  stream: WireStream;
  ready: Promise<unknown>;
  done: Promise<unknown>;
}

/**
 * The changes of a directory or a file, for one `for await`. It ends with the directory, by `close()`, or when the loop is
 * left. Who reads slowly gets many changes of one file as one, and then `overflow`.
 */
export class Watch implements AsyncIterable<Change>, AsyncDisposable {
  /** What happens after it resolved is seen. Rejects with what is wrong with the path. */
  readonly ready: Promise<void>;
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  readonly #stop = new AbortController();
  readonly #changes: AsyncGenerator<Change, void, undefined>;

  /** @internal made by `FileSystem` */
  constructor(wire: () => Promise<Wire>, path: string, recursive: boolean, signal: AbortSignal | undefined) {
    this.#path = path;
    this.#signal = signal;
    const opening = this.#open(wire, recursive);
    this.ready = opening.then(async ({ ready }) => void (await ready)).catch((error) => this.#fail(error));
    this.ready.catch(() => {}); // told to those who read, too
    this.#changes = this.#read(opening);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** What changes, for one `for await`. */
  [Symbol.asyncIterator](): AsyncIterator<Change, void, undefined> {
    return this.#changes;
  }

  /** Ends it: a loop over it is over. Twice is once. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.ready.catch(() => {});
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #open(getWire: () => Promise<Wire>, recursive: boolean): Promise<Opened> {
    const wire = await getWire();
    this.#stop.signal.throwIfAborted();
    const stream = wire.openStream({ send: false, receive: true });
    this.#stop.signal.addEventListener('abort', () => stream.cancel(), { once: true });
    const call = { type: 'fs.watch', path: this.#path, recursive, stream: stream.id } as const;
    const [ready, done] = wire.call2(call, 'fs.watching', 'ok', this.#stop.signal);
    return { wire, stream, ready, done };
  }

  async *#read(opening: Promise<Opened>): AsyncGenerator<Change, void, undefined> {
    try {
      await this.ready;
      const { wire, stream, done } = await opening;
      try {
        for await (const change of decodeRecords(stream, parseChange)) yield this.#absolute(change);
      } catch (error) {
        if (error instanceof WireProtocolError) throw await wire.end(error);
        if (!this.#stop.signal.aborted) await done;
        throw error;
      }
      await done;
    } catch (error) {
      if (this.#stop.signal.aborted && !this.#signal?.aborted) return;
      this.#fail(error);
    } finally {
      await this.close();
    }
  }

  #absolute(change: FsChange): Change {
    if (change.type === 'overflow') return change;
    const at = (path: string) => (path === '' ? this.#path : `${this.#path === '/' ? '' : this.#path}/${path}`);
    const { type, path, directory } = change;
    return type === 'rename'
      ? { type, from: at(change.from), path: at(path), directory }
      : { type, path: at(path), directory };
  }

  #fail(error: unknown): never {
    throw this.#signal?.aborted ? abortError(this.#signal.reason) : requestError(error, 'watch', this.#path);
  }

  readonly #onAbort = () => this.#stop.abort();
}
