import { abortError } from '../../errors.ts';
import type { EventBody, EventScope, RuntimeEvent } from './event.ts';
import { frozenCopy } from './frozen-copy.ts';

/** Whose events these are. */
export type EventOwner = { runId: string } | { instanceId: string; agentName: string };

/** Where events are kept, one log for each run or instance. */
export interface EventStore {
  append(logId: string, event: RuntimeEvent): void;
  /** The first kept event whose number is over `after`. */
  next(logId: string, after: number): RuntimeEvent | undefined;
}

type Delta = Extract<EventBody, { type: 'text_delta' | 'thinking_delta' | 'tool_output' }>;

const joinMs = 50;

/**
 * The events of one run or agent instance: numbers them without a gap, keeps them, and gives them to whoever follows.
 * Pieces of a text that come within 50 ms are joined to one event.
 */
export class EventLog {
  readonly #logId: string;
  readonly #owner: EventOwner;
  readonly #store: EventStore;
  readonly #isObserved: () => boolean;
  readonly #deliver: (event: RuntimeEvent) => void;
  readonly #deltas = new Map<string, { body: Delta; scope: EventScope }>();
  readonly #waiting = new Set<() => void>();
  readonly #untold: RuntimeEvent[] = [];
  #telling = false;
  #timer: NodeJS.Timeout | undefined;
  #nextIndex = 0;
  #closed = false;

  constructor(options: {
    logId: string;
    owner: EventOwner;
    store: EventStore;
    /** Whether anybody is told: else there is no `turn_request`, a copy of the whole conversation. */
    isObserved: () => boolean;
    /** Told of each event, after it was stored; `turn_request` is not stored. */
    deliver: (event: RuntimeEvent) => void;
  }) {
    this.#logId = options.logId;
    this.#owner = options.owner;
    this.#store = options.store;
    this.#isObserved = options.isObserved;
    this.#deliver = options.deliver;
  }

  readonly emit = (body: EventBody, scope: EventScope = {}): void => {
    if (this.#closed) return;
    if (isDelta(body)) {
      this.#join(body, scope);
    } else {
      this.#flush();
      if (body.type !== 'turn_request') this.#append(body, scope);
      // Each holds the whole conversation: kept, they would grow with its square.
      else if (this.#isObserved()) this.#tell(this.#event(this.#nextIndex - 1, body, scope));
    }
  };

  /** Nothing comes after this; whoever follows gets the rest, and then the end. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#wake();
  }

  /** The events with a number over `after`, those of the past first. Ends when no more can come. */
  async *follow(after: number, signal?: AbortSignal): AsyncGenerator<RuntimeEvent, void, undefined> {
    for (let seen = after; ; ) {
      if (signal?.aborted) throw abortError(signal.reason);
      const event = this.#store.next(this.#logId, seen);
      if (event !== undefined) {
        seen = event.eventIndex;
        yield event;
      } else if (this.#closed) {
        return;
      } else {
        await this.#more(signal);
      }
    }
  }

  #more(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #join(body: Delta, scope: EventScope): void {
    const key = JSON.stringify([body.type, scope.turnId, scope.operationId, textKey(body)]);
    const open = this.#deltas.get(key);
    this.#deltas.set(key, { body: open === undefined ? body : joined(open.body, body), scope });
    this.#timer ??= setTimeout(() => this.#flush(), joinMs);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const open = [...this.#deltas.values()];
    this.#deltas.clear(); // first: whoever gets an event may emit another
    for (const { body, scope } of open) this.#append(body, scope);
  }

  #append(body: EventBody, scope: EventScope): void {
    const event = this.#event(this.#nextIndex++, body, scope);
    this.#store.append(this.#logId, event);
    this.#wake();
    this.#tell(event);
  }

  #event(eventIndex: number, body: EventBody, scope: EventScope): RuntimeEvent {
    const event = { v: 1, eventIndex, timestamp: new Date().toISOString(), ...this.#owner, ...scope, ...body };
    return frozenCopy(event) as RuntimeEvent; // JSON goes in and comes out with the same fields
  }

  /** Whoever is told of an event may cause the next one; everybody is told of this one first. */
  #tell(told: RuntimeEvent): void {
    this.#untold.push(told);
    if (this.#telling) return;
    this.#telling = true;
    try {
      for (let event = this.#untold.shift(); event; event = this.#untold.shift()) this.#deliver(event);
    } finally {
      this.#telling = false;
    }
  }
}

function isDelta(body: EventBody): body is Delta {
  return body.type === 'text_delta' || body.type === 'thinking_delta' || body.type === 'tool_output';
}

function textKey(body: Delta): unknown {
  if (body.type === 'text_delta') return undefined;
  return body.type === 'thinking_delta' ? body.contentIndex : [body.toolCallId, body.stream];
}

function joined(first: Delta, second: Delta): Delta {
  if (first.type === 'thinking_delta' && second.type === 'thinking_delta') {
    return { ...first, delta: first.delta + second.delta };
  }
  if (first.type === 'thinking_delta' || second.type === 'thinking_delta') return second; // never: the keys differ
  return { ...first, text: first.text + second.text };
}
