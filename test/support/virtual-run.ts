import { pino } from 'pino';
import { type AgentConfig, defineAgent } from '../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../src/runtime/events/event.ts';
import type { Harness } from '../../src/runtime/harness/harness.ts';
import { createRuntime } from '../../src/runtime/run/runtime.ts';
import { virtual } from '../../src/runtime/sandbox/virtual.ts';
import { eventsOf } from './runtime.ts';

/** Runs work in the root harness of a run, in a sandbox in memory with these files. */
export async function inVirtual<Result>(
  files: Record<string, string>,
  work: (harness: Harness) => Promise<Result>,
  config: AgentConfig = {},
): Promise<{ events: RuntimeEvent[]; result: Result }> {
  const box: { result?: Result } = {};
  const agent = defineAgent(() => ({ workspaceContext: false, sandbox: virtual({ files }), ...config }));
  const run = async ({ harness }: { harness: Harness }) => {
    box.result = await work(harness);
  };
  await using runtime = await createRuntime({ store: ':memory:', logger: pino({ level: 'silent' }) });
  const handle = await runtime.invoke(defineWorkflow({ name: 'w', agent, run }));
  await handle.result();
  return { events: await eventsOf(handle), result: box.result as Result }; // it has completed
}

/** The files of a sandbox with their contents, as a shell sees them. */
export async function filesOf(harness: Harness): Promise<string[]> {
  const { stdout } = await harness.shell('for f in $(find . -type f | sort); do echo "$f=$(cat $f)"; done');
  return stdout.trim().split('\n');
}
