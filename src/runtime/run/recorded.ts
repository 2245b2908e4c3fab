import type { Owner, Store } from '../../journal/store.ts';
import type { EventBody, EventScope, RecordedError, RuntimeEvent } from '../events/event.ts';
import type { Usage } from '../model/model.ts';

const pageSize = 256;

/** What a step was, before its work began. */
export interface StepStart {
  kind: string;
  /** What it is, for people. */
  about: string;
  /** Of all that it is. */
  hash: string;
  /** The index that the next event had. */
  event: number;
  /** ms since 1970 */
  at: number;
}

/** How a step ended; `attempt` is the one that it ended in. */
export type StepEnd = { usage?: Usage; attempt: number } & (
  | { result?: unknown; error?: undefined }
  | { error: RecordedError }
);

export interface RecordedStep {
  start: StepStart;
  /** Left out for one whose work was interrupted. */
  end?: StepEnd;
}

/** An answer of a model that was interrupted: what had come of it. */
export interface BrokenAnswer {
  turnId: string;
  thinking: string;
  text: string;
}

/**
 * What is recorded of work that was begun before: by an earlier attempt, which was interrupted. Of work that begins it is
 * empty.
 */
export class Recorded {
  readonly #steps: ReadonlyMap<string, RecordedStep>;
  /** Beginnings that were told of, whose ends were not. */
  readonly #begun: Set<string>;
  readonly #answers: ReadonlyMap<string, BrokenAnswer>;

  private constructor(
    steps: ReadonlyMap<string, RecordedStep>,
    begun = new Set<string>(),
    answers: ReadonlyMap<string, BrokenAnswer> = new Map(),
  ) {
    this.#steps = steps;
    this.#begun = begun;
    this.#answers = answers;
  }

  static none(): Recorded {
    return new Recorded(new Map());
  }

  static async read(store: Store, owner: Owner): Promise<Recorded> {
    const steps = new Map<string, RecordedStep>();
    for (let after = ''; ; ) {
      const page = await store.steps(owner, { after, limit: pageSize });
      for (const { position, start, end } of page) {
        after = position;
        steps.set(position, { start: JSON.parse(start), ...(end !== undefined && { end: JSON.parse(end) }) }); // we wrote it
      }
      if (page.length < pageSize) break;
    }
    const interrupted = [...steps.values()].filter(({ end }) => !end);
    if (interrupted.length === 0) return new Recorded(steps);
    const events = new InterruptedEvents();
    for (let after = Math.min(...interrupted.map(({ start }) => start.event)) - 1; ; ) {
      const page = await store.events(owner, { after, limit: pageSize });
      for (const { index, json } of page) {
        after = index;
        events.add(JSON.parse(json) as RuntimeEvent); // we wrote it
      }
      if (page.length < pageSize) break;
    }
    return new Recorded(steps, events.begun, events.answers);
  }

  step(position: string): RecordedStep | undefined {
    return this.#steps.get(position);
  }

  /** Something was begun whose position begins so. */
  has(beginning: string): boolean {
    return [...this.#steps.keys()].some((position) => position.startsWith(beginning));
  }

  /** The last attempt in which a step came to its end; 0: none did. */
  get lastProgress(): number {
    return Math.max(0, ...[...this.#steps.values()].map(({ end }) => end?.attempt ?? 0));
  }

  /** The beginning was told of in an attempt before: it is not to be told again. Its end is still to come. */
  takeBegun(body: EventBody, scope: EventScope): boolean {
    if (this.#begun.size === 0) return false;
    const key = beginning(body, scope);
    return key !== undefined && this.#begun.delete(key);
  }

  /** The beginning of a call was told of; its end is still to come. */
  isOpen(operationId: string, toolCallId: string): boolean {
    return this.#begun.has(toolKey(operationId, toolCallId));
  }

  /** What had come of the answer that an operation was waiting for. */
  brokenAnswer(operationId: string): BrokenAnswer | undefined {
    return this.#answers.get(operationId);
  }
}

/** What the events of interrupted work leave open. */
class InterruptedEvents {
  readonly begun = new Set<string>();
  readonly answers = new Map<string, BrokenAnswer>();

  add(event: RuntimeEvent): void {
    const begins = beginning(event, event);
    if (begins !== undefined) this.begun.add(begins);
    const ends = ending(event);
    if (ends !== undefined) this.begun.delete(ends);
    const { operationId, turnId } = event;
    if (operationId === undefined || turnId === undefined) return;
    const open = this.answers.get(operationId);
    if (event.type === 'turn_start' && event.purpose === 'agent') {
      this.answers.set(operationId, { turnId, thinking: '', text: '' });
    } else if (open?.turnId !== turnId) return;
    else if (event.type === 'text_delta') open.text += event.text;
    else if (event.type === 'thinking_delta') open.thinking += event.delta;
    else if (event.type === 'turn') this.answers.delete(operationId);
  }
}

/** Models of different sessions may give the same ids. */
function toolKey(operationId: string | undefined, toolCallId: string): string {
  return `tool ${operationId} ${toolCallId}`;
}

function beginning(body: EventBody, { operationId, taskId, actionId }: EventScope): string | undefined {
  switch (body.type) {
    case 'agent_start':
      return `agent ${operationId}`;
    case 'tool_start':
      return toolKey(operationId, body.toolCallId);
    case 'task_start':
      return `task ${taskId}`;
    case 'action_start':
      return `action ${actionId}`;
    default:
      return undefined;
  }
}

function ending(event: RuntimeEvent): string | undefined {
  switch (event.type) {
    case 'agent_end':
      return `agent ${event.operationId}`;
    case 'tool':
      return toolKey(event.operationId, event.toolCallId);
    case 'task':
      return `task ${event.taskId}`;
    case 'action':
      return `action ${event.actionId}`;
    default:
      return undefined;
  }
}
