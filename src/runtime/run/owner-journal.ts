import { WriteRefusedError } from '../../journal/errors.ts';
import type { Entry, Lease, Owner, Store } from '../../journal/store.ts';
import { Deltas, endsText, isDelta } from '../events/deltas.ts';
import type { EventBody, EventScope, RuntimeEvent } from '../events/event.ts';
import { frozenCopy } from '../events/frozen-copy.ts';
import { Masker } from '../events/masker.ts';
import { Recorded } from './recorded.ts';
import { storedEvents } from './stored-events.ts';

/** A claim holds for so long, unless it is renewed. */
export const leaseMs = 30_000;

const joinMs = 50;

interface Waiting {
  entry?: Entry;
  /** Told when all that was written with it is in the store. */
  event?: RuntimeEvent;
}

/**
 * The one writer for a run or an agent instance. What is put here is written in order, all that came together in one
 * transaction; only then are observers and followers told of the events in it. Secrets are masked here.
 */
export class OwnerJournal {
  readonly owner: Owner;
  readonly store: Store;
  /** Knows what is secret in this work; what is kept elsewhere than here is masked by whoever keeps it. */
  readonly masker: Masker;
  readonly #host: string;
  readonly #isObserved: () => boolean;
  readonly #deliver: (event: RuntimeEvent) => void;
  readonly #onFailure: (error: unknown) => void;
  readonly #deltas: Deltas;
  readonly #followers = new Set<() => void>();
  #lease: Lease | undefined;
  #claiming: Promise<boolean> | undefined;
  #recorded = Recorded.none();
  /** What comes until the next claim is nobody's. */
  #released = false;
  #nextIndex = 0;
  #toldIndex = -1;
  #waiting: Waiting[] = [];
  #written: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #deltaTimer: NodeJS.Timeout | undefined;
  #flushSoon: NodeJS.Immediate | undefined;
  #failure: { error: unknown } | undefined;
  /** Nothing more is taken. */
  #ended = false;
  /** All that was taken is written. */
  #closed = false;

  constructor(options: {
    owner: Owner;
    store: Store;
    /** What is secret besides. Default: nothing */
    masker?: Masker;
    /** Who claims. */
    host: string;
    /** Whether anybody is told: else there is no `turn_request`, a copy of the whole conversation. */
    isObserved: () => boolean;
    /** Told of each event, in order, after it was stored; `turn_request` is not stored. */
    deliver: (event: RuntimeEvent) => void;
    /** Called once, when a write failed: nothing can be written from then on. */
    onFailure: (error: unknown) => void;
  }) {
    this.owner = options.owner;
    this.store = options.store;
    this.masker = new Masker(options.masker);
    this.#deltas = new Deltas(this.masker);
    this.#host = options.host;
    this.#isObserved = options.isObserved;
    this.#deliver = options.deliver;
    this.#onFailure = options.onFailure;
  }

  /** The right to write; nothing can be put here before it is had. */
  get lease(): Lease | undefined {
    return this.#lease;
  }

  /** What there was of the work when it was claimed. */
  get recorded(): Recorded {
    return this.#recorded;
  }

  /** The index of the next event. */
  get nextIndex(): number {
    return this.#nextIndex;
  }

  /** Why nothing more can be written. */
  get failure(): { error: unknown } | undefined {
    return this.#failure;
  }

  /** @returns whether it was free, or is held already */
  async claim(): Promise<boolean> {
    if (this.#lease) return true;
    // Once at a time: of two the second would find it taken.
    this.#claiming ??= this.#claim().finally(() => {
      this.#claiming = undefined;
    });
    return this.#claiming;
  }

  async #claim(): Promise<boolean> {
    const lease = await this.store.claim(this.owner, this.#host, leaseMs);
    if (!lease) return false;
    this.#toldIndex = await this.store.lastEvent(this.owner);
    this.#nextIndex = this.#toldIndex + 1;
    if (lease.fence > 1) this.#recorded = await Recorded.read(this.store, this.owner);
    this.#lease = lease;
    this.#released = false;
    return true;
  }

  /** Lets others write, when all that was put here is written; `claim` takes it back. */
  async release(): Promise<void> {
    this.#takeDeltas(() => true);
    this.#released = true;
    await this.flush();
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease) await this.store.release(lease);
  }

  /** Adds an entry to the next write. */
  put(entry: Entry): void {
    if (!this.#ended && !this.#released) this.#queue({ entry: masked(entry, this.masker) });
  }

  /** Adds an event to the next write. Pieces of a text that come within 50 ms are joined to one. */
  readonly emit = (body: EventBody, scope: EventScope = {}): void => {
    if (this.#ended || this.#released || this.#recorded.takeBegun(body, scope)) return;
    if (isDelta(body)) {
      this.#deltas.add(body, scope);
      this.#deltaTimer ??= setTimeout(() => this.#takeDeltas(), joinMs);
      return;
    }
    this.#takeDeltas((piece) => endsText(piece, body, scope));
    if (body.type !== 'turn_request') this.#append(body, scope);
    // Each holds the whole conversation: kept, they would grow with its square.
    else if (this.#isObserved()) this.#queue({ event: this.#event(this.#nextIndex - 1, body, scope) });
  };

  /**
   * Resolves when all that was put here is in the store, and told.
   * @throws {StoreError} @throws {WriteRefusedError}
   */
  flush(): Promise<void> {
    clearImmediate(this.#flushSoon);
    this.#flushSoon = undefined;
    if (this.#failure) return Promise.reject(this.#failure.error);
    if (this.#waiting.length === 0) return this.#written;
    if (!this.#next) {
      this.#next = this.#written.then(() => this.#write());
      this.#written = this.#next;
    }
    return this.#next;
  }

  /** Writes what is left; nothing comes after it. Whoever follows gets the rest, and then the end. */
  async close(): Promise<void> {
    this.#takeDeltas(() => true);
    this.#ended = true;
    try {
      await this.flush();
    } finally {
      this.#closed = true;
      this.#wake();
    }
  }

  /** The events with a number over `after`, those of the past first. Ends when no more can come. */
  follow(after: number, signal?: AbortSignal): AsyncGenerator<RuntimeEvent, void, undefined> {
    return storedEvents(this, after, signal, {
      isOver: () => {
        if (this.#failure) throw this.#failure.error;
        return this.#closed;
      },
      more: (seen) => this.#more(seen, signal),
    });
  }

  async #more(seen: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#toldIndex > seen || this.#closed || signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        this.#followers.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#followers.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }

  #takeDeltas(isOver: Parameters<Deltas['take']>[0] = () => false): void {
    clearTimeout(this.#deltaTimer);
    this.#deltaTimer = undefined;
    for (const { body, scope } of this.#deltas.take(isOver)) this.#append(body, scope);
  }

  #append(body: EventBody, scope: EventScope): void {
    const index = this.#nextIndex++;
    const event = this.#event(index, body, scope);
    this.#queue({ event, entry: { kind: 'event', index, json: JSON.stringify(event) } });
  }

  #event(eventIndex: number, body: EventBody, scope: EventScope): RuntimeEvent {
    const { owner } = this;
    const head = 'run' in owner ? { runId: owner.run } : { instanceId: owner.instance, agentName: owner.agent };
    const event = { v: 1, eventIndex, timestamp: new Date().toISOString(), ...head, ...scope, ...body };
    return this.masker.value(frozenCopy(event)) as RuntimeEvent; // JSON goes in and comes out with the same fields
  }

  #queue(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#flushSoon ??= setImmediate(() => {
      this.flush().catch(() => {}); // `onFailure` is told
    });
  }

  async #write(): Promise<void> {
    const taken = this.#waiting;
    this.#waiting = [];
    this.#next = undefined;
    try {
      if (!this.#lease) throw new Error('nothing can be written before the claim');
      const entries = taken.flatMap(({ entry }) => (entry ? [entry] : []));
      if (entries.length > 0) await this.store.write(this.#lease, entries);
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    for (const { event } of taken) {
      if (!event) continue;
      this.#toldIndex = event.eventIndex;
      this.#deliver(event);
    }
    this.#wake();
  }

  #fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    this.#waiting = [];
    clearImmediate(this.#flushSoon);
    clearTimeout(this.#deltaTimer);
    this.#ended = true;
    this.#closed = true;
    this.#wake();
    this.#onFailure(error);
  }

  /** Asks whether the lease is still had, before something is ended that whoever has it would miss. */
  async hold(): Promise<void> {
    if (!this.#lease || this.#failure) return;
    const [held] = await this.store.renew([this.#lease], leaseMs);
    if (!held) this.lost();
  }

  /** Somebody else has the lease. */
  lost(): void {
    this.#fail(new WriteRefusedError('lease'));
  }

  #wake(): void {
    for (const wake of [...this.#followers]) wake();
  }
}

function masked(entry: Entry, masker: Masker): Entry {
  if ('json' in entry) return { ...entry, json: masker.json(entry.json) };
  return 'progress' in entry ? { ...entry, progress: masker.json(entry.progress) } : entry;
}
