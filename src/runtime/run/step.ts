import { createHash } from 'node:crypto';
import { ReplayMismatchError } from '../errors.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import { derivedId } from '../id.ts';
import type { Usage } from '../model/model.ts';
import type { OwnerJournal } from './owner-journal.ts';
import type { RecordedStep, StepEnd, StepStart } from './recorded.ts';

const maxAboutCharacters = 200;

/**
 * Gives calls with an effect their positions: names that they have again when the same code runs again. A lane is that of
 * a harness, where work runs side by side: there a call is known by what it is, and equal ones are counted. Or it is that
 * of a session, where one call comes after the other: there the calls are counted.
 */
export class Steps {
  readonly #journal: OwnerJournal;
  readonly #path: string;
  readonly #ordered: boolean;
  readonly #counts = new Map<string, number>();
  readonly #sessions = new Map<string, Steps>();

  constructor(journal: OwnerJournal, path = '', { ordered = false }: { ordered?: boolean } = {}) {
    this.#journal = journal;
    this.#path = path;
    this.#ordered = ordered;
  }

  /** Something in it, or in one of its sessions, has a position. */
  get used(): boolean {
    return this.#counts.size > 0 || [...this.#sessions.values()].some(({ used }) => used);
  }

  /** The lane of a session; the same one for a session that comes after it under its name. */
  session(name: string): Steps {
    const known = this.#sessions.get(name);
    if (known) return known;
    const lane = new Steps(this.#journal, this.#below(`session.${escapeName(name)}`), { ordered: true });
    this.#sessions.set(name, lane);
    return lane;
  }

  /**
   * The position of the next call.
   * @param call - what it is, besides its kind; no values of secrets
   * @throws {ReplayMismatchError} an earlier attempt recorded another call there
   */
  next(kind: string, ...call: readonly unknown[]): Step {
    const text = jsonOf(call);
    const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
    const name = this.#ordered ? 'op' : `${kind}.${hash}`;
    const count = this.#counts.get(name) ?? 0;
    this.#counts.set(name, count + 1);
    const about = this.#journal.masker.text(text).slice(0, maxAboutCharacters); // no part of a secret either
    const position = this.#below(`${name}.${count}`);
    const recorded = this.#journal.recorded.step(position);
    if (recorded && (recorded.start.kind !== kind || recorded.start.hash !== hash)) {
      const expected = `${recorded.start.kind} ${recorded.start.about}`;
      throw new ReplayMismatchError({ expected, seen: `${kind} ${about}` });
    }
    return new Step(this.#journal, position, { kind, about, hash }, recorded);
  }

  #below(name: string): string {
    return this.#path === '' ? name : `${this.#path}/${name}`;
  }
}

/** One call with an effect, and where it is recorded: that it began, and what it gave before anybody uses that. */
export class Step {
  readonly position: string;
  /** When it was begun the first time: ms since 1970. */
  readonly startedAt: number;
  /** For what is done as a part of it. */
  readonly below: Steps;
  readonly #journal: OwnerJournal;
  readonly #start: Omit<StepStart, 'event' | 'at'>;
  readonly #recorded: RecordedStep | undefined;
  #isBegun: boolean;

  /** @param recorded - by an earlier attempt */
  constructor(
    journal: OwnerJournal,
    position: string,
    start: Omit<StepStart, 'event' | 'at'>,
    recorded: RecordedStep | undefined,
  ) {
    this.#journal = journal;
    this.position = position;
    this.#start = start;
    this.#recorded = recorded;
    this.#isBegun = recorded !== undefined;
    this.startedAt = recorded?.start.at ?? Date.now();
    this.below = new Steps(journal, position);
  }

  /** An id that the call has again when the same code runs again. No other call of any run or instance has it. */
  id(prefix: string): string {
    return derivedId(prefix, JSON.stringify([this.#journal.owner, this.position]));
  }

  /** The call of a tool that a model makes in it. */
  toolCall(toolCallId: string): Step {
    return this.below.next('call', toolCallId);
  }

  /** By which a sandbox knows the command again. */
  get key(): string {
    return this.id('step');
  }

  /** How it ended in an earlier attempt: then it is not done again. */
  get outcome(): StepEnd | undefined {
    return this.#recorded?.end;
  }

  /** It was begun in an earlier attempt, which was interrupted. */
  get isResumed(): boolean {
    return this.#recorded !== undefined && !this.#recorded.end;
  }

  begin(): void {
    if (this.#isBegun) return;
    this.#isBegun = true;
    const start: StepStart = { ...this.#start, event: this.#journal.nextIndex, at: this.startedAt };
    this.#journal.put({ kind: 'step.start', position: this.position, json: JSON.stringify(start) });
  }

  /**
   * How it ended. What was recorded of its parts goes: nobody asks for that again.
   * @param usage - of models. Default: none
   */
  end(outcome: { result: unknown } | { error: unknown }, usage?: Usage): void {
    const end: StepEnd = {
      ...('error' in outcome ? { error: recordedError(outcome.error) } : outcome),
      ...(usage && (usage.totalTokens > 0 || !usage.cost) && { usage }),
      attempt: this.#journal.lease?.fence ?? 0,
    };
    this.#journal.put({ kind: 'step.end', position: this.position, json: JSON.stringify(end) });
    this.abandon();
  }

  /** It has no end, as its harness was ended: it would be done again. */
  abandon(): void {
    if (this.below.used) this.#journal.put({ kind: 'step.removeBelow', position: this.position });
  }

  /**
   * Does something as this step, or gives what an earlier attempt recorded of it.
   * @param ending - of the harness: what failed when it was aborted has no end
   */
  async perform<Result>(work: () => Result | Promise<Result>, ending?: AbortSignal): Promise<Result> {
    if (this.outcome?.error) throw restoredError(this.outcome.error);
    if (this.outcome) return this.outcome.result as Result; // what `work` gave then
    this.begin();
    try {
      const result = await work();
      this.end({ result });
      return result;
    } catch (error) {
      if (ending?.aborted) this.abandon();
      else this.end({ error });
      throw error;
    } finally {
      await this.#journal.flush();
    }
  }
}

/** As what a call is may be anything, and only has to be told from others. */
function jsonOf(about: readonly unknown[]): string {
  try {
    return JSON.stringify(about);
  } catch {
    return '';
  }
}

function escapeName(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1'); // as in RFC 6901, section 3
}
