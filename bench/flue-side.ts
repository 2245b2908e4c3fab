// One side of flue.bench.ts, in a process of its own: Berth or Flue, which does what it is told.

import * as v from 'valibot';

const work = v.object({ text: v.string(), sessions: v.number(), prompts: v.number() });

/** Prompts of one text, so many in each of so many sessions. */
export type Work = v.InferOutput<typeof work>;

export type Order =
  /** A run of a workflow, to its end. */
  | { run: Work }
  /** A message to an agent instance, to its answer. */
  | { instance: string; text: string };

/** Of a process, in bytes: `started` before its first order, `worked` within a run, after its last prompt. */
export interface Memory {
  started: number;
  worked: number;
}

export interface SideOptions {
  /** Of the provider, which speaks OpenAI's Chat Completions. */
  baseUrl: string;
  /** The path of a SQLite file, or `:memory:`. */
  store: string;
  /** A module that exports all that is needed here of Flue. Without it the side is Berth. */
  flue?: string;
}

interface Side {
  /** @returns bytes of memory, while all of it is there */
  run(work: Work): Promise<number>;
  /** @returns the answer */
  instance(id: string, text: string): Promise<string>;
}

const files = { '/workspace/file': 'its only line\n' };
const model = 'scripted/at-once';
const provider = (baseUrl: string) => ({ api: 'openai-completions', baseUrl, apiKey: 'none' }) as const;

/** What the harnesses of both have. */
interface Harness {
  session(name: string): Promise<{ prompt(text: string): PromiseLike<{ text: string }> }>;
}

/** The body of the workflow. */
async function run({ harness, input }: { harness: Harness; input: Work }): Promise<number> {
  for (let made = 0; made < input.sessions; made++) {
    const session = await harness.session(`s${made}`);
    for (let said = 0; said < input.prompts; said++) check((await session.prompt(input.text)).text);
  }
  return process.memoryUsage.rss();
}

function check(answer: string): void {
  if (answer !== 'Done.') throw new Error(`the answer is: ${answer}`);
}

async function openBerth({ baseUrl, store }: SideOptions): Promise<Side> {
  // Not above: the other side's process has nothing of it.
  const { createRuntime, defineAgent, defineWorkflow, virtual } = await import('berth');
  const runtime = await createRuntime({ store, models: { scripted: provider(baseUrl) } });
  const agent = defineAgent(() => ({ model, sandbox: virtual({ files }) }), { name: 'bench' });
  const workflow = defineWorkflow({ name: 'bench', agent, input: work, run });
  return {
    run: async (input) => (await runtime.invoke(workflow, { input })).result(),
    instance: async (instance, message) => (await (await runtime.dispatch(agent, { instance, message })).result()).text,
  };
}

/**
 * Put together as in what Flue's command line builds for Node, where `@flue/runtime/internal` runs the definitions: no
 * public export does. Its store has the events of runs, and of agent instances the conversation; the conversation of a
 * run is in memory in any case. In a file, each of its commits waits for the disk (`synchronous = FULL`, what SQLite does
 * unless it is told); Berth's wait at checkpoints (`NORMAL`).
 */
async function openFlue(module: string, { baseUrl, store }: SideOptions): Promise<Side> {
  const flue = await import(module);
  flue.registerProvider('scripted', provider(baseUrl));
  const sandbox = flue.bash(() => new flue.Bash({ fs: new flue.InMemoryFs(files), cwd: '/workspace' }));
  const agent = flue.defineAgent(() => ({ model, sandbox }));
  const workflow = flue.defineWorkflow({ agent, input: work, run });
  const adapter = flue.sqlite(store);
  adapter.migrate();
  const { executionStore, ...stores } = adapter.connect();
  const createContext = (owner: object) =>
    flue.createFlueContext({ ...owner, env: process.env, agentConfig: { resolveModel: flue.resolveModel } });
  const coordinator = flue.createNodeAgentCoordinator({
    submissions: executionStore.submissions,
    agents: [{ name: 'bench', definition: agent }],
    createContext,
    ...stores,
  });
  return {
    async run(input) {
      const runId = flue.generateWorkflowRunId();
      const { result } = await flue.invokeWorkflowAttached({
        workflowName: 'bench',
        workflow,
        runId,
        input,
        request: new Request('http://127.0.0.1/workflows/bench', { method: 'POST' }),
        createContext: (owner: object) => createContext({ id: runId, ...owner }),
        ...stores,
      });
      return result;
    },
    instance: async (id, message) => (await coordinator.createAdmission('bench', id)({ message })).result.text,
  };
}

const options: SideOptions = JSON.parse(process.argv[2] ?? '');
const side = await (options.flue === undefined ? openBerth(options) : openFlue(options.flue, options));
const started = process.memoryUsage.rss();
let worked = started;
process.on('message', async (order: Order) => {
  if ('run' in order) worked = await side.run(order.run);
  else check(await side.instance(order.instance, order.text));
  process.send?.({ started, worked } satisfies Memory);
});
process.send?.('open');
