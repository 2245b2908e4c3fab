import { createHash } from 'node:crypto';
import { recordedError } from '../events/recorded-error.ts';
import { derivedId } from '../id.ts';
import type { OwnerJournal } from './owner-journal.ts';

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
   */
  next(kind: string, ...call: readonly unknown[]): Step {
    const text = jsonOf(call);
    const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
    const name = this.#ordered ? 'op' : `${kind}.${hash}`;
    const count = this.#counts.get(name) ?? 0;
    this.#counts.set(name, count + 1);
    const about = this.#journal.masker.text(text).slice(0, maxAboutCharacters); // no part of a secret either
    const start = { kind, about, hash };
    return new Step(this.#journal, this.#below(`${name}.${count}`), start);
  }

  #below(name: string): string {
    return this.#path === '' ? name : `${this.#path}/${name}`;
  }
}

/** One call with an effect, and where it is recorded: that it began, and what it gave before anybody uses that. */
export class Step {
  readonly position: string;
  /** For what is done as a part of it. */
  readonly below: Steps;
  readonly #journal: OwnerJournal;
  readonly #start: object;

  constructor(journal: OwnerJournal, position: string, start: { kind: string; about: string; hash: string }) {
    this.#journal = journal;
    this.position = position;
    this.#start = start;
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

  begin(): void {
    this.#journal.put({ kind: 'step.start', position: this.position, json: JSON.stringify(this.#start) });
  }

  /** How it ended. What was recorded of its parts goes: nobody asks for that again. */
  end(outcome: { result: unknown } | { error: unknown }): void {
    const kept = 'error' in outcome ? { error: recordedError(outcome.error) } : outcome;
    this.#journal.put({ kind: 'step.end', position: this.position, json: JSON.stringify(kept) });
    this.abandon();
  }

  /** It has no end, as it was aborted: it would be done again. */
  abandon(): void {
    if (this.below.used) this.#journal.put({ kind: 'step.removeBelow', position: this.position });
  }

  /**
   * Does something as this step.
   * @param signal - what failed when it was aborted has no end
   */
  async perform<Result>(work: () => Result | Promise<Result>, signal?: AbortSignal): Promise<Result> {
    this.begin();
    try {
      const result = await work();
      this.end({ result });
      return result;
    } catch (error) {
      if (signal?.aborted) this.abandon();
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
