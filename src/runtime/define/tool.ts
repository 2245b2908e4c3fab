import type * as v from 'valibot';
import type { Log } from '../events/log.ts';
import { inputSchemaIssues, outputSchemaIssues } from '../schema/check.ts';
import type { Schema } from '../schema/parse.ts';
import type { ObjectSchema, Returned } from './action.ts';
import { type Fields, Problems } from './checks.ts';
import { defined, isDefined } from './definition.ts';
import { toolNamePattern } from './names.ts';

/** What `run` of a tool gets. `input` is there when the tool has an input schema. */
export type ToolContext<Input extends Schema | undefined = undefined> = {
  /** Aborts with the prompt, and when `timeoutMs` is over. */
  readonly signal: AbortSignal;
  /** Of this call, in the conversation and in events. */
  readonly toolCallId: string;
  /** Writes `log` events, with the names of tool and call among their attributes. */
  readonly log: Log;
} & (Input extends Schema ? { readonly input: v.InferOutput<Input> } : unknown);

/** What a tool is made of. A field that it does not have is refused. */
export interface ToolOptions<Input extends ObjectSchema | undefined, Output extends Schema | undefined, Result> {
  /** What a model calls it by: a letter or `_`, then letters, digits, `_`, `-`; at most 64. */
  name: string;
  /** For the model. */
  description: string;
  /** An object schema. Default: the tool takes no input */
  input?: Input;
  /** Default: any JSON value may be returned; a text is given to the model as it is */
  output?: Output;
  /** The work, in this process. What it throws, a model gets as an error, by its message. */
  run: (context: ToolContext<Input>) => Result | Promise<Result>;
  /** Calls of one turn run one after the other, in order. Default: false */
  sequential?: boolean;
  /** Milliseconds; then the model gets an error as result. Default: 600,000 */
  timeoutMs?: number;
}

/** A function of the application that a model may call. It has no harness; an action has one. */
export interface ToolDefinition {
  readonly name: string;
  readonly description: string;
  readonly input?: Schema;
  readonly output?: Schema;
  /** The work, as it was given. */
  readonly run: (context: never) => unknown;
  /** Left out: false */
  readonly sequential?: boolean;
  /** Milliseconds. Left out: 600,000 */
  readonly timeoutMs?: number;
}

const fields: Fields = {
  known: ['name', 'description', 'input', 'output', 'run', 'sequential', 'timeoutMs'],
  advice: {
    parameters: 'is now called input, and takes a Valibot schema',
    execute: 'is now called run, and gets one object: { input, signal, toolCallId, log }',
  },
};

/**
 * Defines a tool.
 * @param options.sequential - calls of one turn run one after the other, in order. Default: false
 * @param options.timeoutMs - milliseconds; then the model gets an error as result. Default: 600,000
 * @throws {DefinitionError} with everything that is wrong with the definition
 * @example
 * const now = defineTool({
 *   name: 'now',
 *   description: 'The time.',
 *   output: v.object({ iso: v.string() }),
 *   run: () => ({ iso: new Date().toISOString() }),
 * });
 */
export function defineTool<
  Input extends ObjectSchema | undefined = undefined,
  Output extends Schema | undefined = undefined,
  const Result extends Returned<Output> = Returned<Output>,
>(options: ToolOptions<Input, Output, Result>): ToolDefinition {
  const problems = new Problems('The tool');
  checkTool(problems, options, '');
  problems.throwIfAny();
  return makeTool(options);
}

/** A tool as it stands in a `tools` array: a definition, or a plain object of the same fields. */
export function checkToolItem(problems: Problems, item: unknown, path: string): void {
  if (!isDefined('tool', item)) checkTool(problems, item, path);
}

/** The definition of an item that `checkToolItem` accepted. */
export function toTool(item: ToolDefinition): ToolDefinition {
  return isDefined('tool', item) ? item : makeTool(item);
}

function checkTool(problems: Problems, value: unknown, path: string): void {
  const at = (field: string) => (path === '' ? field : `${path}.${field}`);
  const tool = problems.record(value, path, fields);
  problems.name(tool.name, at('name'), toolNamePattern);
  problems.text(tool.description, at('description'));
  if (tool.input !== undefined) problems.addSchema(at('input'), inputSchemaIssues(tool.input));
  if (tool.output !== undefined) problems.addSchema(at('output'), outputSchemaIssues(tool.output));
  problems.function(tool.run, at('run'));
  problems.optional(tool.sequential, at('sequential'), (field, where) => problems.boolean(field, where));
  problems.optional(tool.timeoutMs, at('timeoutMs'), (field, where) => problems.positiveInteger(field, where));
}

function makeTool(options: {
  name: string;
  description: string;
  input?: Schema | undefined;
  output?: Schema | undefined;
  run: (context: never) => unknown;
  sequential?: boolean;
  timeoutMs?: number;
}): ToolDefinition {
  const { name, description, input, output, run, sequential, timeoutMs } = options;
  return defined('tool', {
    name,
    description,
    run,
    ...(input !== undefined && { input }),
    ...(output !== undefined && { output }),
    ...(sequential !== undefined && { sequential }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
}
