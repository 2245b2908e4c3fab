import { ReplayMismatchError, ResultUnavailableError } from '../errors.ts';
import type { UserMessage } from '../model/model.ts';
import { type LoopTool, type ToolResult, textResult } from '../model/tool.ts';
import { isObjectSchema } from '../schema/check.ts';
import { issueText } from '../schema/issue.ts';
import { inputJsonSchema } from '../schema/json-schema.ts';
import { parse, type Schema } from '../schema/parse.ts';
import type { ConversationRecord } from './conversation.ts';
import { resultsOf } from './results.ts';
import type { PromptResult } from './session.ts';

const maxReminders = 5;

/** What the model gave for a result, before it was parsed. */
const givenFor = new WeakMap<PromptResult, unknown>();

/** The result that was recorded, with what the schema makes of what the model gave. @throws {ReplayMismatchError} */
export function restoredPrompt(recorded: unknown, schema: Schema | undefined): PromptResult & { data?: unknown } {
  const result = recorded as PromptResult & { data?: unknown }; // `recordedPrompt` gave it
  if (!schema) return result;
  const parsed = parse(schema, result.data);
  if (!parsed.success) {
    const seen = parsed.issues.map((issue) => issueText(issue, 'result')).join('; ');
    throw new ReplayMismatchError({ expected: 'a result that fits the schema of the prompt', seen });
  }
  return { ...result, data: parsed.output };
}

/** A result for the record: with what the model gave, as what a schema makes of it may not be JSON. */
export function recordedPrompt(result: PromptResult): unknown {
  return givenFor.has(result) ? { ...result, data: givenFor.get(result) } : result;
}

type Settled = { kind: 'finish'; given: unknown; data: unknown } | { kind: 'give_up'; reason: string };

/** How a model gives a value in place of a text: it calls `finish` with it, or `give_up`. */
export class StructuredResult {
  readonly #schema: Schema;
  readonly #wrapped: boolean;
  #settled: Settled | undefined;
  #reminders = 0;

  constructor(schema: Schema) {
    this.#schema = schema;
    this.#wrapped = !isObjectSchema(schema);
  }

  /** What stands below the prompt. */
  readonly footer =
    'When you are done, call the tool finish with the result. If it can not be had, call give_up with the reason. ' +
    'A text is no result.';

  /** A result was given, or the model has given up. */
  get isSettled(): boolean {
    return this.#settled !== undefined;
  }

  /** Takes what was said in an earlier attempt as if it were said now. */
  repeat(said: readonly ConversationRecord[]): void {
    for (const [{ toolName, input }, { isError }] of resultsOf(said)) {
      if (isError) continue; // it did not fit, or was no JSON
      const settle = { finish: this.#finish, give_up: this.#giveUp }[toolName];
      settle?.call(this, JSON.parse(input.trim() || '{}'));
    }
    this.#reminders = Math.max(0, said.filter(({ type }) => type === 'user').length - 1);
  }

  get tools(): LoopTool[] {
    const value = inputJsonSchema(this.#schema);
    return [
      {
        name: 'finish',
        description: 'Gives the result and ends the work.',
        parameters: this.#wrapped
          ? { type: 'object', properties: { result: value }, required: ['result'], additionalProperties: false }
          : value,
        isResumable: true,
        run: async (input) => this.#finish(input),
      },
      {
        name: 'give_up',
        description: 'Says why the result can not be had, and ends the work.',
        parameters: {
          type: 'object',
          properties: { reason: { type: 'string' } },
          required: ['reason'],
          additionalProperties: false,
        },
        isResumable: true,
        run: async (input) => this.#giveUp(input),
      },
    ];
  }

  /** A reminder for a model that stopped without a result; `undefined` when there were enough. */
  reminder(): UserMessage | undefined {
    if (this.#settled || this.#reminders >= maxReminders) return undefined;
    this.#reminders++;
    const text = 'You stopped without a result. Call finish with it, or give_up with the reason.';
    return { role: 'user', content: [{ type: 'text', text }] };
  }

  /**
   * The result of the prompt, with what the model gave.
   * @throws {ResultUnavailableError} the model gave up, or gave none
   */
  addTo(prompted: PromptResult): PromptResult & { data: unknown } {
    if (this.#settled?.kind === 'finish') {
      const result = { ...prompted, data: this.#settled.data };
      givenFor.set(result, this.#settled.given);
      return result;
    }
    const reason = this.#settled?.reason ?? `it stopped ${maxReminders + 1} times without calling finish`;
    throw new ResultUnavailableError({ reason, assistantText: prompted.text });
  }

  #finish(input: unknown): ToolResult {
    if (this.#settled) return alreadySettled();
    const value = this.#wrapped ? (input as { result?: unknown } | null)?.result : input;
    const parsed = parse(this.#schema, value);
    if (!parsed.success) {
      const issues = parsed.issues.map((issue) => issueText(issue, 'result')).join('\n');
      return textResult(`The result does not fit. Mend it and call finish again.\n${issues}`, { isError: true });
    }
    this.#settled = { kind: 'finish', given: value, data: parsed.output };
    return textResult('The result was taken.', { endsLoop: true });
  }

  #giveUp(input: unknown): ToolResult {
    if (this.#settled) return alreadySettled();
    const reason = (input as { reason?: unknown } | null)?.reason;
    if (typeof reason !== 'string') return textResult('Say the reason, as a text.', { isError: true });
    this.#settled = { kind: 'give_up', reason };
    return textResult('Taken.', { endsLoop: true });
  }
}

function alreadySettled(): ToolResult {
  return textResult('The result was given before: this call changes nothing.', { isError: true, endsLoop: true });
}
