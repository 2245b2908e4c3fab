import { actionInput } from '../action/execute.ts';
import type { IsOptional } from '../define/action.ts';
import type { WorkflowDefinition } from '../define/workflow.ts';
import { WorkflowInputSerializationError, WorkflowInputUnexpectedError } from '../errors.ts';
import type { Model } from '../model/model.ts';
import { type JsonValue, jsonSnapshot, NotJson } from '../schema/snapshot.ts';

/** Options of `invoke`. One that it does not have is refused. */
export interface InvokeOptions<Input = unknown> {
  /** What the schema of the workflow takes, as JSON. Default: none, which a schema gets as `{}` */
  input?: Input;
  /** Makes the call idempotent. `[A-Za-z0-9_.-]`, at most 128. Default: `run_` and a ULID */
  id?: string;
  /** Cancels the run. One that is aborted already: nothing is started, and `invoke` rejects with an `AbortError`. */
  signal?: AbortSignal;
  /**
   * `'provider/model'` or a model itself, in place of the one that the workflow's agent has. A prompt that names one of
   * its own keeps that. Default: that of the agent
   */
  model?: string | Model;
}

/** The options of an `invoke`, which may be left out where the input may be. */
export type InvokeArguments<Input> =
  IsOptional<Input> extends true
    ? [options?: InvokeOptions<Input>]
    : [options: InvokeOptions<Input> & { input: Input }];

/**
 * The input as it is kept. The schema's output is made again when the run starts.
 * @throws {WorkflowInputUnexpectedError} @throws {WorkflowInputSerializationError} @throws {ActionInputValidationError}
 */
export function workflowInput(
  name: string,
  workflow: WorkflowDefinition,
  input: unknown,
  maxBytes: number,
): JsonValue | undefined {
  const { action } = workflow;
  if (input === undefined) {
    actionInput(action, undefined);
    return undefined;
  }
  if (!action.input) throw new WorkflowInputUnexpectedError({ workflow: name });
  let kept: JsonValue;
  try {
    kept = jsonSnapshot(input, 'input', maxBytes);
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    const { path, kind } = error;
    throw new WorkflowInputSerializationError({ workflow: name, path, kind }, { cause: error });
  }
  actionInput(action, kept);
  return kept;
}
