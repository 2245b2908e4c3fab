import type { Schema } from '../schema/parse.ts';
import {
  type ActionContext,
  type ActionDefinition,
  actionBodyFields,
  checkActionBody,
  type Delivered,
  type FilesMode,
  type InputOf,
  isAction,
  makeAction,
  type ObjectSchema,
  type Returned,
} from './action.ts';
import { type AgentDefinition, isAgent } from './agent.ts';
import { Problems } from './checks.ts';
import { defined, isDefined } from './definition.ts';
import { agentNamePattern } from './names.ts';

/** A workflow that is bound to an action, whose input and output it has. */
export interface BoundWorkflowOptions<Input, Output> {
  /** Whose configuration and sandbox the harness has. */
  agent: AgentDefinition;
  /** A letter, then letters, digits, `_`, `-`; at most 64. Default: that of the action */
  name?: string;
  /** The work. It is not offered to the model. */
  action: ActionDefinition<Input, Output>;
}

/** A workflow that has its own work: the fields of an action in place of one. */
export interface InlineWorkflowOptions<
  Input extends ObjectSchema | undefined,
  Output extends Schema | undefined,
  Result,
> {
  /** Whose configuration and sandbox the harness has. */
  agent: AgentDefinition;
  /** A letter, then letters, digits, `_`, `-`; at most 64. Default: none, then it is registered under one to be invoked */
  name?: string;
  /** An object schema. Default: the workflow takes no input */
  input?: Input;
  /** Default: any JSON value may be returned */
  output?: Output;
  /** The work. What it throws is the error of the run. */
  run: (context: ActionContext<Input>) => Result | Promise<Result>;
  /** As of an action. Default: `'shared'` */
  files?: FilesMode;
  /** Milliseconds for the whole run; then it is aborted and `ActionTimeoutError` thrown. Default: none */
  timeoutMs?: number;
}

/** An action that can be run as a whole, with the agent whose harness it gets. */
export interface WorkflowDefinition<Input = unknown, Output = unknown> {
  /** Its own name, or that of its action where it was bound to one. */
  readonly name?: string;
  /** Whose configuration and sandbox the harness has. */
  readonly agent: AgentDefinition;
  /** The work: the one that it is bound to, or one made of its own `run`. */
  readonly action: ActionDefinition<Input, Output>;
}

/**
 * Defines a workflow: an action bound to an agent, or its own `run`, with the fields of an action.
 * @param options.agent - whose configuration and sandbox the harness has
 * @throws {DefinitionError} with everything that is wrong with the definition
 * @example
 * const listFiles = defineWorkflow({
 *   name: 'list-files',
 *   agent: coder,
 *   run: async ({ harness }) => (await harness.shell('ls')).stdout,
 * });
 */
export function defineWorkflow<
  Input extends ObjectSchema | undefined = undefined,
  Output extends Schema | undefined = undefined,
  const Result extends Returned<Output> = Returned<Output>,
>(options: InlineWorkflowOptions<Input, Output, Result>): WorkflowDefinition<InputOf<Input>, Delivered<Output, Result>>;
/**
 * Defines a workflow of an action that was defined before.
 * @param options.agent - whose configuration and sandbox the harness has. The action is not offered to its model
 * @throws {DefinitionError} with everything that is wrong with the definition
 * @example const fixBug = defineWorkflow({ name: 'fix-bug', agent: coder, action: fixBugAction });
 */
export function defineWorkflow<Input, Output>(
  options: BoundWorkflowOptions<Input, Output>,
): WorkflowDefinition<Input, Output>;
export function defineWorkflow(
  options: BoundWorkflowOptions<unknown, unknown> | InlineWorkflowOptions<ObjectSchema, Schema, unknown>,
): WorkflowDefinition {
  const problems = new Problems('The workflow');
  const { agent, name, action, ...body } = problems.record(options, '', {
    known: ['agent', 'name', 'action', ...actionBodyFields],
  });
  problems.optional(name, 'name', (value, path) => problems.name(value, path, agentNamePattern));
  if (!isAgent(agent)) problems.add('agent', 'must be an agent made by defineAgent, not a copy');
  if (action === undefined) {
    if (body.run === undefined) problems.add('', 'needs either action or run');
    else checkActionBody(problems, body);
  } else {
    if (!isAction(action)) problems.add('action', 'must be an action made by defineAction, not a copy');
    for (const field of actionBodyFields) {
      if (body[field] !== undefined) problems.add(field, 'can not stand beside action, which has its own');
    }
  }
  problems.throwIfAny();

  if ('action' in options && options.action !== undefined) {
    const known = options.name ?? options.action.name;
    return defined('workflow', { agent: options.agent, action: options.action, name: known });
  }
  const inline = options as InlineWorkflowOptions<ObjectSchema, Schema, unknown>; // it has no action, so it has `run`
  const own = makeAction({ ...inline, name: inline.name ?? 'workflow', description: 'The work of a workflow.' });
  return defined('workflow', {
    agent: options.agent,
    action: own,
    ...(options.name !== undefined && { name: options.name }),
  });
}

export function isWorkflow(value: unknown): value is WorkflowDefinition {
  return isDefined('workflow', value);
}
