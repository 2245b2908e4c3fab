import type * as v from 'valibot';
import type { Log } from '../events/log.ts';
import type { Harness } from '../harness/harness.ts';
import { inputSchemaIssues, outputSchemaIssues } from '../schema/check.ts';
import type { Schema } from '../schema/parse.ts';
import { Problems } from './checks.ts';
import { defined, isDefined } from './definition.ts';
import { toolNamePattern } from './names.ts';

declare const types: unique symbol;

/** What `run` of an action gets. `input` is there when the action has an input schema. */
export type ActionContext<Input extends Schema | undefined = undefined> = {
  /** Lives as long as this run: everything that it started is ended before the result is delivered. */
  readonly harness: Harness;
  /** Writes `log` events, with the name of the action among their attributes. */
  readonly log: Log;
  /** Aborts when the run is cancelled or times out, or when the caller is aborted. */
  readonly signal: AbortSignal;
} & (Input extends Schema ? { readonly input: v.InferOutput<Input> } : unknown);

/** An input schema: its top level is an object. Such a `pipe` has the type of its first item. */
export type ObjectSchema = Schema & {
  readonly type: 'object' | 'strict_object' | 'loose_object' | 'object_with_rest';
};

/** Whether a call may leave its input out: where there is none, or an empty object is one. */
export type IsOptional<Input> = undefined extends Input ? true : Record<never, never> extends Input ? true : false;

/** What a caller writes. An action without an input schema takes nothing. */
export type InputOf<Input extends Schema | undefined> = Input extends Schema ? v.InferInput<Input> : undefined;

/**
 * What `run` returns: the input side of the output schema, whose parsed side is then delivered. Its arrays may be
 * readonly: a type parameter that keeps literals as they are written, for picklists, makes them so.
 */
export type Returned<Output extends Schema | undefined> = Output extends Schema
  ? Readable<v.InferInput<Output>>
  : unknown;

/** As it is, readonly in all of its depth. */
type Readable<T> = T extends readonly unknown[] | Record<string, unknown>
  ? { readonly [Key in keyof T]: Readable<T[Key]> }
  : T;

/** A copy is the caller's own. */
type Writable<T> = T extends readonly unknown[] | Record<string, unknown>
  ? { -readonly [Key in keyof T]: Writable<T[Key]> }
  : T;

/** What a caller gets. Nothing is delivered as `null`. */
export type Delivered<Output extends Schema | undefined, Result> = Output extends Schema
  ? v.InferOutput<Output>
  : unknown extends Result
    ? unknown
    : Result extends NonNullable<unknown> | null
      ? Writable<Result>
      : null;

/** What an action works on: see `ActionOptions.files`. */
export type FilesMode = 'shared' | 'transaction';

/** What an action is made of. A field that it does not have is refused. */
export interface ActionOptions<Input extends ObjectSchema | undefined, Output extends Schema | undefined, Result> {
  /** What a model calls it by: a letter or `_`, then letters, digits, `_`, `-`; at most 64. */
  name: string;
  /** A model sees it when the action is given to an agent. */
  description: string;
  /** An object schema. Default: the action takes no input */
  input?: Input;
  /** Default: any JSON value may be returned */
  output?: Output;
  /** The work. What it throws is the error of the call. */
  run: (context: ActionContext<Input>) => Result | Promise<Result>;
  /**
   * `'shared'`: `run` works on the files themselves. `'transaction'`: it works on a fork of the sandbox, and what it changed is
   * put in place when its output is good, all of it or, as when it fails, nothing. Default: `'shared'`
   */
  files?: FilesMode;
  /** Milliseconds for the whole run; then it is aborted and `ActionTimeoutError` thrown. Default: none */
  timeoutMs?: number;
}

/** A typed piece of work with a harness: callable by code, by a workflow and, as a tool, by a model. */
export interface ActionDefinition<Input = unknown, Output = unknown> {
  readonly name: string;
  readonly description: string;
  readonly input?: Schema;
  readonly output?: Schema;
  /** The work, as it was given. */
  readonly run: (context: never) => unknown;
  /** Left out: `'shared'` */
  readonly files?: FilesMode;
  /** Milliseconds. Left out: none */
  readonly timeoutMs?: number;
  /** Only for the compiler. */
  readonly [types]?: { input: Input; output: Output };
}

/**
 * Defines an Action.
 * @param options.name - what a model calls it by when it is given to an agent
 * @param options.input - a Valibot object schema; without it the action takes no input
 * @param options.output - a Valibot schema for what `run` returns; what is delivered is its parsed side, as JSON
 * @param options.files - `'transaction'`: what `run` changes is put in place when its output is good. Default: `'shared'`
 * @param options.timeoutMs - milliseconds; then the run is aborted and `ActionTimeoutError` thrown. Default: none
 * @throws {DefinitionError} with everything that is wrong with the definition
 * @example
 * const summarize = defineAction({
 *   name: 'summarize_document',
 *   description: 'Summarizes a text in one sentence.',
 *   input: v.object({ text: v.string() }),
 *   output: v.object({ summary: v.string() }),
 *   async run({ harness, input }) {
 *     const session = await harness.session();
 *     return { summary: (await session.prompt(`Summarize:\n${input.text}`)).text };
 *   },
 * });
 */
export function defineAction<
  Input extends ObjectSchema | undefined = undefined,
  Output extends Schema | undefined = undefined,
  const Result extends Returned<Output> = Returned<Output>,
>(options: ActionOptions<Input, Output, Result>): ActionDefinition<InputOf<Input>, Delivered<Output, Result>> {
  const problems = new Problems('The action');
  const { name, description, ...body } = problems.record(options, '', {
    known: ['name', 'description', ...actionBodyFields],
  });
  problems.name(name, 'name', toolNamePattern);
  problems.text(description, 'description');
  checkActionBody(problems, body);
  problems.throwIfAny();
  return makeAction(options);
}

export const actionBodyFields = ['input', 'output', 'run', 'files', 'timeoutMs'] as const;

/** Checks what an action and an inline workflow have in common. */
export function checkActionBody(problems: Problems, body: Record<string, unknown>): void {
  if (body.input !== undefined) problems.addSchema('input', inputSchemaIssues(body.input));
  if (body.output !== undefined) problems.addSchema('output', outputSchemaIssues(body.output));
  problems.function(body.run, 'run');
  problems.optional(body.timeoutMs, 'timeoutMs', (value, path) => problems.positiveInteger(value, path));
  problems.optional(body.files, 'files', (value, path) => problems.oneOf(value, path, ['shared', 'transaction']));
}

/** An action of options that were checked. */
export function makeAction<Input, Output>(options: {
  name: string;
  description: string;
  input?: Schema | undefined;
  output?: Schema | undefined;
  run: (context: never) => unknown;
  files?: FilesMode;
  timeoutMs?: number;
}): ActionDefinition<Input, Output> {
  const { name, description, input, output, run, files, timeoutMs } = options;
  return defined('action', {
    name,
    description,
    run,
    ...(input !== undefined && { input }),
    ...(output !== undefined && { output }),
    ...(files !== undefined && { files }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
}

export function isAction(value: unknown): value is ActionDefinition {
  return isDefined('action', value);
}
