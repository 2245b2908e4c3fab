import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { test as base } from 'vitest';
import { defineAgent } from '../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../src/runtime/define/workflow.ts';
import type { EventOf, RuntimeEvent } from '../../src/runtime/events/event.ts';
import type { Harness } from '../../src/runtime/harness/harness.ts';
import type { RunHandle } from '../../src/runtime/run/run.ts';
import { createRuntime, type Runtime } from '../../src/runtime/run/runtime.ts';
import { local } from '../../src/runtime/sandbox/local.ts';
import { type ScriptedTurn, scriptedModel } from '../../src/testing/scripted-model.ts';

interface Fixtures {
  /** A directory of its own, gone after the test. */
  directory: string;
  /** What the runtime wrote to its log. */
  logged: { level: number; msg: string }[];
  /** Works in `directory`, without a boundary. */
  runtime: Runtime;
}

export const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of the fixtures that this one needs
  directory: async ({}, use) => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'berth-test-')));
    await use(directory);
    await rm(directory, { recursive: true, force: true });
  },
  // biome-ignore lint/correctness/noEmptyPattern: as above
  logged: async ({}, use) => {
    await use([]);
  },
  runtime: async ({ directory, logged }, use) => {
    const logger = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line)) });
    const runtime = await createRuntime({ store: ':memory:', logger, sandbox: local({ cwd: directory }) });
    await use(runtime);
    await runtime.close();
  },
});

/** Runs `work` in the root harness of a run, with a model that answers with `turns`. */
export async function inHarness<Result>(
  runtime: Runtime,
  turns: readonly ScriptedTurn[],
  work: (harness: Harness, signal: AbortSignal) => Promise<Result>,
): Promise<{ run: RunHandle; result: Result; model: ReturnType<typeof scriptedModel> }> {
  const model = scriptedModel(turns);
  const box: { result?: Result } = {};
  const workflow = defineWorkflow({
    name: `test-${++count}`,
    agent: defineAgent(() => ({ model })),
    run: async ({ harness, signal }) => {
      box.result = await work(harness, signal);
    },
  });
  const run = await runtime.invoke(workflow);
  await run.result();
  return { run, result: box.result as Result, model }; // the run has completed, so `work` has given it
}
let count = 0;

export async function eventsOf(run: RunHandle): Promise<RuntimeEvent[]> {
  const events: RuntimeEvent[] = [];
  for await (const event of run.events()) events.push(event);
  return events;
}

export function ofType<Type extends RuntimeEvent['type']>(events: RuntimeEvent[], type: Type): EventOf<Type>[] {
  return events.filter((event): event is EventOf<Type> => event.type === type);
}
