import type { DispatchOptions, DispatchRequest } from '../agent/dispatch.ts';
import type { Receipt } from '../agent/instance.ts';
import type { AgentDefinition } from '../define/agent.ts';
import type { WorkflowDefinition } from '../define/workflow.ts';
import { currentWork } from './current-work.ts';
import type { InvokeArguments, InvokeOptions } from './invoke.ts';
import type { RunHandle } from './run.ts';
import { type Observer, Runtime } from './runtime.ts';

let madeRuntime: Runtime | undefined;

/** The runtime that the caller runs in; elsewhere a default one, which is made at first use. */
function defaultRuntime(): Runtime {
  const current = currentWork.getStore();
  if (current) return current.runtime;
  madeRuntime ??= new Runtime({});
  return madeRuntime;
}

/**
 * Starts a run of a workflow: `invoke` of the runtime that the caller runs in, else of a default one, which is made at
 * first use.
 * @throws all that `invoke` of a runtime throws; {StoreError} the default one can't open its store
 */
export function invoke(workflow: string, options?: InvokeOptions): Promise<RunHandle>;
/** As above, by the definition: the compiler then knows input and output. */
export function invoke<Input, Output>(
  workflow: WorkflowDefinition<Input, Output>,
  ...rest: InvokeArguments<NoInfer<Input>>
): Promise<RunHandle<Output>>;
export function invoke(workflow: string | WorkflowDefinition, options?: InvokeOptions): Promise<RunHandle> {
  // The two forms of `invoke`, which tells them apart.
  return defaultRuntime().invoke(workflow as string, options);
}

/**
 * Puts a message into the inbox of an agent instance: `dispatch` of the runtime that the caller runs in, else of a default
 * one, which is made at first use.
 * @throws all that `dispatch` of a runtime throws; {StoreError} the default one can't open its store
 */
export function dispatch(agent: string | AgentDefinition, options: DispatchOptions): Promise<Receipt>;
/** As above, with both arguments in one. */
export function dispatch(request: DispatchRequest): Promise<Receipt>;
export function dispatch(
  first: string | AgentDefinition | DispatchRequest,
  options?: DispatchOptions,
): Promise<Receipt> {
  // The two forms of `dispatch`, which tells them apart.
  return defaultRuntime().dispatch(first as AgentDefinition, options as DispatchOptions);
}

/**
 * Calls `observer` with every event from now on: of the runtime that the caller runs in, else of a default one, which is
 * made at first use.
 * @returns ends it
 */
export function observe(observer: Observer): () => void {
  return defaultRuntime().observe(observer);
}
