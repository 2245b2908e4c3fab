import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import { type AgentConfig, defineAgent, resolveAgent } from '../../../src/runtime/define/agent.ts';
import type { EventBody, RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { UsageMeter } from '../../../src/runtime/events/scope.ts';
import { Forks } from '../../../src/runtime/harness/forks.ts';
import { OpenHarness } from '../../../src/runtime/harness/open-harness.ts';
import { Models } from '../../../src/runtime/model/providers.ts';
import { Mailbox } from '../../../src/runtime/run/mailbox.ts';
import { OwnerJournal } from '../../../src/runtime/run/owner-journal.ts';
import { Rest } from '../../../src/runtime/run/rest.ts';
import { Steps } from '../../../src/runtime/run/step.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { SandboxTools } from '../../../src/runtime/tools/tool-environment.ts';
import { sandboxRequest } from '../../support/sandbox-request.ts';

/** A root harness in a directory of this machine, with every event that it told. Close it with `await using`. */
export async function harnessBench(config: AgentConfig = {}, { depth = 0 }: { depth?: number } = {}) {
  const cwd = await mkdtemp(join(tmpdir(), 'berth-test-'));
  const events: RuntimeEvent[] = [];
  const observers: ((event: RuntimeEvent) => void)[] = [];
  const store = await SqliteStore.open(':memory:');
  await store.admitRun({ id: 'run_bench', workflow: 'bench', json: '{}' });
  const journal = new OwnerJournal({
    owner: { run: 'run_bench' },
    store,
    host: 'bench',
    onFailure: () => {},
    isObserved: () => true,
    deliver: (event) => {
      events.push(event);
      for (const observe of observers) observe(event);
    },
  });
  await journal.claim();
  const stop = new AbortController();
  const meter = new UsageMeter();
  const env = await local({ cwd }).createSandbox(sandboxRequest({ signal: stop.signal }));
  const rest = new Rest();
  const harness = new OpenHarness({
    name: 'default',
    env,
    agent: await resolveAgent(
      defineAgent(() => ({ workspaceContext: false, ...config })),
      { id: 'run_bench', env: {} },
    ),
    models: new Models({}, {}),
    shared: new SandboxTools(),
    emit: journal.emit,
    journal,
    scope: { harness: 'default' },
    meter,
    steps: new Steps(journal),
    conversations: new Map(),
    rest,
    forks: new Forks(rest),
    mailbox: new Mailbox(store, 'run_bench'),
    maxValueBytes: 16 * 1024 * 1024,
    depth,
    signal: stop.signal,
  });
  return {
    harness,
    events,
    meter,
    stop,
    cwd,
    env,
    /** Calls back with every event from now on. */
    observe: (observer: (event: RuntimeEvent) => void) => observers.push(observer),
    /** Resolves with the next event of a type. */
    next<Type extends EventBody['type']>(type: Type): Promise<Extract<RuntimeEvent, { type: Type }>> {
      return new Promise((resolve) => {
        observers.push((event) => {
          if (event.type === type) resolve(event as Extract<RuntimeEvent, { type: Type }>); // its type was compared
        });
      });
    },
    of<Type extends EventBody['type']>(type: Type) {
      return events.filter((event): event is Extract<RuntimeEvent, { type: Type }> => event.type === type);
    },
    types: () => events.map(({ type }) => type),
    async [Symbol.asyncDispose]() {
      await harness.close();
      await journal.close();
      await store.close();
      await rm(cwd, { recursive: true, force: true });
    },
  };
}
