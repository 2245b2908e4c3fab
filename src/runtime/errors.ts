import { BerthError } from '../errors.ts';
import type { RecordedError } from './events/event.ts';
import { restoredError } from './events/recorded-error.ts';
import { type Issue, issueText } from './schema/issue.ts';

/** A bad argument, body or query; `reason` says what is wrong with it. */
export class InvalidRequestError extends BerthError<{ reason: string }> {
  static {
    InvalidRequestError.prototype.name = 'InvalidRequestError';
  }
  readonly code = 'invalid_request';
  override readonly status = 400;
  constructor(reason: string, options?: ErrorOptions) {
    super(`The request is not valid: ${reason}.`, { reason }, options);
  }
}

/** The input of an action does not fit its schema. The action was not started. */
export class ActionInputValidationError extends BerthError<{ action: string; issues: Issue[] }> {
  static {
    ActionInputValidationError.prototype.name = 'ActionInputValidationError';
  }
  readonly code = 'action_input_validation';
  override readonly status = 400;
  constructor(meta: { action: string; issues: Issue[] }, options?: ErrorOptions) {
    super(`The input of ${meta.action} does not fit its schema: ${issueTexts(meta.issues, 'input')}.`, meta, options);
  }
}

/** What an action returned does not fit its output schema. */
export class ActionOutputValidationError extends BerthError<{ action: string; issues: Issue[] }> {
  static {
    ActionOutputValidationError.prototype.name = 'ActionOutputValidationError';
  }
  readonly code = 'action_output_validation';
  constructor(meta: { action: string; issues: Issue[] }, options?: ErrorOptions) {
    super(`The output of ${meta.action} does not fit its schema: ${issueTexts(meta.issues, 'output')}.`, meta, options);
  }
}

/** What can't be kept as JSON. */
interface Unserializable {
  /** Where it is, as in `output.items[3].when`. */
  path: string;
  /** What was found there, as in `a Date`. */
  kind: string;
}

/** What an action returned can't be kept as JSON: `kind` was found at `path`. */
export class ActionOutputSerializationError extends BerthError<{ action: string } & Unserializable> {
  static {
    ActionOutputSerializationError.prototype.name = 'ActionOutputSerializationError';
  }
  readonly code = 'action_output_serialization';
  constructor(meta: { action: string } & Unserializable, options?: ErrorOptions) {
    super(`The output of ${meta.action} can't be kept as JSON: ${meta.path} is ${meta.kind}.`, meta, options);
  }
}

/** An action took longer than its `timeoutMs`; what it had started was ended. */
export class ActionTimeoutError extends BerthError<{ action: string; timeoutMs: number }> {
  static {
    ActionTimeoutError.prototype.name = 'ActionTimeoutError';
  }
  readonly code = 'action_timeout';
  override readonly status = 504;
  constructor(meta: { action: string; timeoutMs: number }, options?: ErrorOptions) {
    super(`The action ${meta.action} took longer than ${meta.timeoutMs} ms.`, meta, options);
  }
}

/** The arguments that a model gave to a tool do not fit its schema. */
export class ToolInputValidationError extends BerthError<{ tool: string; issues: Issue[] }> {
  static {
    ToolInputValidationError.prototype.name = 'ToolInputValidationError';
  }
  readonly code = 'tool_input_validation';
  constructor(meta: { tool: string; issues: Issue[] }, options?: ErrorOptions) {
    super(
      `The arguments of ${meta.tool} do not fit: ${issueTexts(meta.issues, 'input')}. Call it again with valid ones.`,
      meta,
      options,
    );
  }
}

/** What a tool returned does not fit its output schema. */
export class ToolOutputValidationError extends BerthError<{ tool: string; issues: Issue[] }> {
  static {
    ToolOutputValidationError.prototype.name = 'ToolOutputValidationError';
  }
  readonly code = 'tool_output_validation';
  constructor(meta: { tool: string; issues: Issue[] }, options?: ErrorOptions) {
    super(`The output of ${meta.tool} does not fit its schema: ${issueTexts(meta.issues, 'output')}.`, meta, options);
  }
}

/** What a tool returned can't be kept as JSON. */
export class ToolOutputSerializationError extends BerthError<{ tool: string } & Unserializable> {
  static {
    ToolOutputSerializationError.prototype.name = 'ToolOutputSerializationError';
  }
  readonly code = 'tool_output_serialization';
  constructor(meta: { tool: string } & Unserializable, options?: ErrorOptions) {
    super(`The output of ${meta.tool} can't be kept as JSON: ${meta.path} is ${meta.kind}.`, meta, options);
  }
}

/** What a step gave can't be kept as JSON. */
export class StepOutputSerializationError extends BerthError<{ step: string } & Unserializable> {
  static {
    StepOutputSerializationError.prototype.name = 'StepOutputSerializationError';
  }
  readonly code = 'step_output_serialization';
  constructor(meta: { step: string } & Unserializable, options?: ErrorOptions) {
    super(
      `What the step ${meta.step} gave can't be kept as JSON: ${meta.path} is ${meta.kind}. Let it give plain values.`,
      meta,
      options,
    );
  }
}

/** A workflow without an input schema was given an input. */
export class WorkflowInputUnexpectedError extends BerthError<{ workflow: string }> {
  static {
    WorkflowInputUnexpectedError.prototype.name = 'WorkflowInputUnexpectedError';
  }
  readonly code = 'workflow_input_unexpected';
  override readonly status = 400;
  constructor(meta: { workflow: string }, options?: ErrorOptions) {
    super(`The workflow ${meta.workflow} takes no input: call it without one.`, meta, options);
  }
}

/** The input of a workflow can't be kept as JSON. */
export class WorkflowInputSerializationError extends BerthError<{ workflow: string } & Unserializable> {
  static {
    WorkflowInputSerializationError.prototype.name = 'WorkflowInputSerializationError';
  }
  readonly code = 'workflow_input_serialization';
  override readonly status = 400;
  constructor(meta: { workflow: string } & Unserializable, options?: ErrorOptions) {
    super(`The input of ${meta.workflow} can't be kept as JSON: ${meta.path} is ${meta.kind}.`, meta, options);
  }
}

/** The store did not take the run in: it was not started. Why stands in the cause. */
export class WorkflowAdmissionError extends BerthError<{ workflow: string }> {
  static {
    WorkflowAdmissionError.prototype.name = 'WorkflowAdmissionError';
  }
  readonly code = 'workflow_admission_failed';
  override readonly status = 503;
  constructor(meta: { workflow: string }, options?: ErrorOptions) {
    super(
      `A run of ${meta.workflow} could not be stored, so it was not started: invoke it again when the store works.`,
      meta,
      options,
    );
  }
}

/** No workflow is registered under that name. */
export class WorkflowNotFoundError extends BerthError<{ name: string }> {
  static {
    WorkflowNotFoundError.prototype.name = 'WorkflowNotFoundError';
  }
  readonly code = 'workflow_not_found';
  override readonly status = 404;
  constructor(meta: { name: string }, options?: ErrorOptions) {
    super(`There is no workflow ${meta.name}: give it to createRuntime({ workflows }).`, meta, options);
  }
}

/** No agent is registered under that name. */
export class AgentNotFoundError extends BerthError<{ name: string }> {
  static {
    AgentNotFoundError.prototype.name = 'AgentNotFoundError';
  }
  readonly code = 'agent_not_found';
  override readonly status = 404;
  constructor(meta: { name: string }, options?: ErrorOptions) {
    super(`There is no agent ${meta.name}: give it to createRuntime({ agents }).`, meta, options);
  }
}

/** The runtime knows no run of that id, or no longer keeps it. */
export class RunNotFoundError extends BerthError<{ runId: string }> {
  static {
    RunNotFoundError.prototype.name = 'RunNotFoundError';
  }
  readonly code = 'run_not_found';
  override readonly status = 404;
  constructor(meta: { runId: string }, options?: ErrorOptions) {
    super(`There is no run ${meta.runId}.`, meta, options);
  }
}

/** The id of a run was used before, with another workflow or input. */
export class RunConflictError extends BerthError<{ runId: string }> {
  static {
    RunConflictError.prototype.name = 'RunConflictError';
  }
  readonly code = 'run_conflict';
  override readonly status = 409;
  constructor(meta: { runId: string }, options?: ErrorOptions) {
    super(`The run ${meta.runId} has another workflow or input: choose another id.`, meta, options);
  }
}

/** The run was cancelled. `reason` is the text that was given to `cancel`. */
export class RunCancelledError extends BerthError<{ runId: string; reason?: string }> {
  static {
    RunCancelledError.prototype.name = 'RunCancelledError';
  }
  readonly code = 'run_cancelled';
  override readonly status = 409;
  constructor(meta: { runId: string; reason?: string }, options?: ErrorOptions) {
    super(`The run ${meta.runId} was cancelled${meta.reason ? `: ${meta.reason}` : '.'}`, meta, options);
  }
}

/** The key of a submission was used before, with another payload. */
export class SubmissionConflictError extends BerthError<{ key: string }> {
  static {
    SubmissionConflictError.prototype.name = 'SubmissionConflictError';
  }
  readonly code = 'submission_conflict';
  override readonly status = 409;
  constructor(meta: { key: string }, options?: ErrorOptions) {
    super(`The key ${meta.key} was used with another message: choose another key.`, meta, options);
  }
}

/** The submission was aborted before it was complete; `reason` is why. */
export class SubmissionAbortedError extends BerthError<{ submissionId: string; reason: string }> {
  static {
    SubmissionAbortedError.prototype.name = 'SubmissionAbortedError';
  }
  readonly code = 'submission_aborted';
  override readonly status = 409;
  constructor(meta: { submissionId: string; reason: string }, options?: ErrorOptions) {
    super(`The submission ${meta.submissionId} was aborted: ${meta.reason}`, meta, options);
  }
}

/** The submission took longer than the agent's `durability` allows; what it had started was ended. */
export class SubmissionTimeoutError extends BerthError<{ submissionId: string; timeoutMs: number }> {
  static {
    SubmissionTimeoutError.prototype.name = 'SubmissionTimeoutError';
  }
  readonly code = 'submission_timeout';
  override readonly status = 504;
  constructor(meta: { submissionId: string; timeoutMs: number }, options?: ErrorOptions) {
    super(
      `The submission ${meta.submissionId} took longer than ${meta.timeoutMs} ms. Give the agent more, by ` +
        'durability: { timeoutMs }, or ask for less at once.',
      meta,
      options,
    );
  }
}

/** Work was begun as often as its agent's `durability` allows, and was interrupted each time. */
export class SubmissionRetryExhaustedError extends BerthError<{ attemptCount: number }> {
  static {
    SubmissionRetryExhaustedError.prototype.name = 'SubmissionRetryExhaustedError';
  }
  readonly code = 'submission_retry_exhausted';
  constructor(meta: { attemptCount: number }, options?: ErrorOptions) {
    super(
      `The work was begun ${meta.attemptCount} times and interrupted each time, so it is not begun again: look for what ` +
        'ends the process, or give the agent more by durability: { maxAttempts }.',
      meta,
      options,
    );
  }
}

/**
 * Code that runs again after an interruption made another call than was recorded at that place. `expected` is what was
 * recorded, `seen` is what was called.
 */
export class ReplayMismatchError extends BerthError<{ expected: string; seen: string }> {
  static {
    ReplayMismatchError.prototype.name = 'ReplayMismatchError';
  }
  readonly code = 'replay_mismatch';
  constructor(meta: { expected: string; seen: string }, options?: ErrorOptions) {
    super(
      `The code does not repeat what it did before it was interrupted: there was ${meta.expected}, now it is ${meta.seen}. ` +
        'Take times and random values from the harness, and let runs of changed code begin anew.',
      meta,
      options,
    );
  }
}

/** Nothing of that name came before the time to wait for it was over. */
export class WaitTimeoutError extends BerthError<{ waitedFor: string; timeoutMs: number }> {
  static {
    WaitTimeoutError.prototype.name = 'WaitTimeoutError';
  }
  readonly code = 'wait_timeout';
  override readonly status = 504;
  constructor(meta: { waitedFor: string; timeoutMs: number }, options?: ErrorOptions) {
    super(`Nothing was sent as ${meta.waitedFor} within ${meta.timeoutMs} ms.`, meta, options);
  }
}

/** The harness has no session of that name. */
export class SessionNotFoundError extends BerthError<{ session: string }> {
  static {
    SessionNotFoundError.prototype.name = 'SessionNotFoundError';
  }
  readonly code = 'session_not_found';
  override readonly status = 404;
  constructor(meta: { session: string }, options?: ErrorOptions) {
    super(`There is no session ${meta.session}: make it with harness.session().`, meta, options);
  }
}

/** The harness has a session of that name already. */
export class SessionAlreadyExistsError extends BerthError<{ session: string }> {
  static {
    SessionAlreadyExistsError.prototype.name = 'SessionAlreadyExistsError';
  }
  readonly code = 'session_already_exists';
  override readonly status = 409;
  constructor(meta: { session: string }, options?: ErrorOptions) {
    super(`There is a session ${meta.session} already: get it with harness.sessions.get().`, meta, options);
  }
}

/** The session has an operation under way. It was not disturbed, and the new one not started. */
export class SessionBusyError extends BerthError<{ session: string; activeOperation: string }> {
  static {
    SessionBusyError.prototype.name = 'SessionBusyError';
  }
  readonly code = 'session_busy';
  override readonly status = 409;
  constructor(meta: { session: string; activeOperation: string }, options?: ErrorOptions) {
    super(
      `The session ${meta.session} is at work (${meta.activeOperation}): await that, or use another session.`,
      meta,
      options,
    );
  }
}

/** The harness, or the session, has ended with the run that it belonged to. */
export class HarnessClosedError extends BerthError<undefined> {
  static {
    HarnessClosedError.prototype.name = 'HarnessClosedError';
  }
  readonly code = 'harness_closed';
  constructor(options?: ErrorOptions) {
    super('The harness has ended: use it only until the run of its action returns.', undefined, options);
  }
}

/** Tasks and actions are nested more deeply than is allowed. */
export class DelegationDepthExceededError extends BerthError<{ maxDepth: number }> {
  static {
    DelegationDepthExceededError.prototype.name = 'DelegationDepthExceededError';
  }
  readonly code = 'delegation_depth_exceeded';
  constructor(meta: { maxDepth: number }, options?: ErrorOptions) {
    super(`Tasks and actions may be nested ${meta.maxDepth} deep at most: do this work here.`, meta, options);
  }
}

/** None of several attempts completed. `errors` are theirs, in their order. */
export class AttemptsFailedError extends BerthError<{ errors: readonly RecordedError[] }> {
  static {
    AttemptsFailedError.prototype.name = 'AttemptsFailedError';
  }
  readonly code = 'attempts_failed';
  constructor(meta: { errors: readonly RecordedError[] }, options?: ErrorOptions) {
    const texts = meta.errors.map(({ message }, index) => `${index + 1}: ${message}`);
    super(`None of the ${meta.errors.length} attempts completed. ${texts.join(' ')}`, meta, options);
  }
  /** Those of `meta.errors`, of their classes where these are ours. */
  get errors(): Error[] {
    return this.meta.errors.map(restoredError);
  }
}

/** A structured result was asked for and the model gave none: it gave up, or never called `finish`. */
export class ResultUnavailableError extends BerthError<{ reason: string; assistantText: string }> {
  static {
    ResultUnavailableError.prototype.name = 'ResultUnavailableError';
  }
  readonly code = 'result_unavailable';
  constructor(meta: { reason: string; assistantText: string }, options?: ErrorOptions) {
    super(`The model gave no result: ${meta.reason}.`, meta, options);
  }
  /** Why: the words of the model when it gave up. The same as `meta.reason`. */
  get reason(): string {
    return this.meta.reason;
  }
  /** The last text of the model, which may be empty. The same as `meta.assistantText`. */
  get assistantText(): string {
    return this.meta.assistantText;
  }
}

/**
 * A sandbox can't do exactly what was asked, and did nothing. `options` are those that it can't do, `supportedBy` the
 * factories whose sandboxes can do it, where that is known.
 */
export class SandboxOperationUnsupportedError extends BerthError<{
  operation: string;
  options?: string[];
  supportedBy?: string[];
}> {
  static {
    SandboxOperationUnsupportedError.prototype.name = 'SandboxOperationUnsupportedError';
  }
  readonly code = 'sandbox_operation_unsupported';
  constructor(meta: { operation: string; options?: string[]; supportedBy?: string[] }, options?: ErrorOptions) {
    const how = meta.options?.length ? ` with ${meta.options.join(', ')}` : '';
    const use = meta.supportedBy?.length ? ` Use one of ${meta.supportedBy.join(' or ')}.` : '';
    super(`This sandbox does not support ${meta.operation}${how}.${use}`, meta, options);
  }
}

/**
 * Interrupted work can't go on: the sandbox in which it was done is gone, with its files. `kind` and `id` are those of the
 * run or agent instance.
 */
export class SandboxGoneError extends BerthError<{ kind: 'run' | 'agent'; id: string; reason: string }> {
  static {
    SandboxGoneError.prototype.name = 'SandboxGoneError';
  }
  readonly code = 'sandbox_gone';
  constructor(meta: { kind: 'run' | 'agent'; id: string; reason: string }, options?: ErrorOptions) {
    const work = meta.kind === 'run' ? 'run' : 'agent instance';
    super(
      `The sandbox of the ${work} ${meta.id} is gone, with its files: ${meta.reason}. Start the work anew.`,
      meta,
      options,
    );
  }
}

/** The runtime is closing or closed. Nothing was started. */
export class RuntimeUnavailableError extends BerthError<undefined> {
  static {
    RuntimeUnavailableError.prototype.name = 'RuntimeUnavailableError';
  }
  readonly code = 'runtime_unavailable';
  override readonly status = 503;
  constructor(options?: ErrorOptions) {
    super('The runtime was closed: make another with createRuntime().', undefined, options);
  }
}

function issueTexts(issues: Issue[], root: string): string {
  return issues.map((issue) => issueText(issue, root)).join('; ');
}
