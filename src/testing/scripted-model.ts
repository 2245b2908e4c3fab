import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidRequestError } from '../runtime/errors.ts';
import { ModelRequestError, providerError } from '../runtime/model/errors.ts';
import type { FinishReason, Model, ModelEvent, ModelPrices, ModelRequest } from '../runtime/model/model.ts';
import { type Tokens, withCost } from '../runtime/model/usage.ts';
import { checkOptions } from '../runtime/options.ts';

/** One answer, written down. Its parts are streamed in the order of these fields. */
export interface ScriptedAnswer {
  /** Milliseconds that are waited before the answer starts. Default: 0 */
  delayMs?: number;
  /** What the model thinks, streamed in at most four pieces. Default: nothing */
  thinking?: string;
  /** What it says, streamed in at most four pieces. Default: nothing */
  text?: string;
  /**
   * `input` is made JSON; a string is given as it is, so that it can be what is no JSON. Default: `{}`. `id` by default is
   * `call_`, the number of the turn, `_` and the number of the call
   */
  toolCalls?: { name: string; input?: unknown; id?: string }[];
  /** What the parts before it came to, until it failed: as a provider's error, so an HTTP status may be retried. */
  error?: { message: string; status?: number; retryAfterMs?: number };
  /** Default: `tool-calls` with tool calls, else `stop` */
  finishReason?: FinishReason;
  /** Tokens. Default: 0 each */
  usage?: Partial<Tokens>;
}

/** One turn of a script: a text, an answer, or what makes one of the two when it is asked. */
export type ScriptedTurn =
  | string
  | ScriptedAnswer
  | ((request: ModelRequest) => string | ScriptedAnswer | Promise<string | ScriptedAnswer>);

/** A model whose turns are written down; its provider is `scripted`. */
export interface ScriptedModel extends Model {
  /** What it was asked, each request copied when it came. */
  readonly requests: ModelRequest[];
}

/**
 * A model whose turns are written down, for tests and demonstrations. Each request takes the next turn, also one that
 * is made again after an error; a request beyond the last turn fails.
 * @param options.id - what stands behind the slash of its name. Default: `scripted`
 * @param options.contextWindow - tokens. Default: not known
 * @param options.cost - US dollars per million tokens. Default: nothing costs anything
 * @throws {InvalidRequestError} a field of a turn or an option is not known
 * @example const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: { command: 'npm test' } }] }, 'Done.']);
 */
export function scriptedModel(
  turns: readonly ScriptedTurn[],
  options: { id?: string; contextWindow?: number; cost?: ModelPrices } = {},
): ScriptedModel {
  checkOptions('scriptedModel', options, { id: true, contextWindow: true, cost: true });
  if (!Array.isArray(turns)) throw new InvalidRequestError('the turns of scriptedModel must be an array');
  for (const [i, turn] of turns.entries()) {
    if (typeof turn !== 'string' && typeof turn !== 'function') checkAnswer(turn, i + 1);
  }
  const { id = 'scripted', contextWindow, cost } = options;
  const requests: ModelRequest[] = [];
  const prices = cost ?? { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };

  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    requests.push(structuredClone(request));
    const number = requests.length;
    const turn = turns[number - 1];
    if (turn === undefined) {
      const message = `scripted model ${id} was asked for turn ${number}, but has only ${turns.length}`;
      throw new ModelRequestError(message, { transient: false });
    }
    const made = typeof turn === 'function' ? await turn(request) : turn;
    const answer = typeof made === 'string' ? { text: made } : made;
    checkAnswer(answer, number);
    if (answer.delayMs !== undefined) await sleep(answer.delayMs, undefined, { signal });
    let index = 0;
    if (answer.thinking !== undefined) {
      yield { type: 'thinking-start', index };
      for (const text of pieces(answer.thinking)) yield { type: 'thinking-delta', index, text };
      yield { type: 'thinking-end', index };
      index++;
    }
    if (answer.text !== undefined) {
      for (const text of pieces(answer.text)) yield { type: 'text-delta', index, text };
      index++;
    }
    const { toolCalls = [] } = answer;
    for (const [position, { name, input = {}, id: given }] of toolCalls.entries()) {
      yield {
        type: 'tool-call',
        index: index++,
        toolCallId: given ?? `call_${number}_${position + 1}`,
        toolName: name,
        input: typeof input === 'string' ? input : JSON.stringify(input),
      };
    }
    const usage = withCost({ input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0, ...answer.usage }, prices);
    if (answer.error) {
      yield { type: 'usage', usage };
      throw providerError(answer.error);
    }
    yield {
      type: 'finish',
      finishReason: answer.finishReason ?? (toolCalls.length > 0 ? 'tool-calls' : 'stop'),
      usage,
    };
  }

  return {
    provider: 'scripted',
    id,
    api: 'scripted',
    seesImages: true,
    ...(contextWindow !== undefined && { contextWindow }),
    requests,
    stream,
  };
}

/** A misspelt field would make another answer, without a word. */
function checkAnswer(answer: ScriptedAnswer, number: number): void {
  checkOptions(`turn ${number} of the script`, answer, {
    delayMs: true,
    thinking: true,
    text: true,
    toolCalls: true,
    error: true,
    finishReason: true,
    usage: true,
  });
  for (const call of answer.toolCalls ?? []) {
    checkOptions(`a tool call of turn ${number}`, call, { name: true, input: true, id: true });
  }
}

/** A text in at most four pieces, so that whoever shows it is seen to put pieces together. */
function pieces(text: string): string[] {
  const characters = [...text]; // not UTF-16 units: a pair must stay whole
  const length = Math.max(1, Math.ceil(characters.length / 4));
  const result: string[] = [];
  for (let start = 0; start < characters.length; start += length) {
    result.push(characters.slice(start, start + length).join(''));
  }
  return result;
}
