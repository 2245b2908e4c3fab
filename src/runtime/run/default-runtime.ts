import type { Receipt } from '../agent/instance.ts';
import type { AgentDefinition } from '../define/agent.ts';
import type { WorkflowDefinition } from '../define/workflow.ts';
import type { RunHandle } from './run.ts';
import { type DispatchOptions, type InvokeOptions, type Observer, Runtime } from './runtime.ts';

let runtime: Runtime | undefined;

function defaultRuntime(): Runtime {
  runtime ??= new Runtime({});
  return runtime;
}

/** `invoke` of a default runtime, which is made at first use. */
export function invoke<Input, Output>(
  workflow: WorkflowDefinition<Input, Output>,
  options?: InvokeOptions<Input>,
): Promise<RunHandle<Output>> {
  return defaultRuntime().invoke(workflow, options);
}

/** `dispatch` of the default runtime. */
export function dispatch(agent: AgentDefinition, options: DispatchOptions): Promise<Receipt> {
  return defaultRuntime().dispatch(agent, options);
}

/** `observe` of the default runtime. */
export function observe(observer: Observer): () => void {
  return defaultRuntime().observe(observer);
}
