// What the runtime adds: model loop, tools, events and records, with a scripted model that answers at once.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRuntime, defineAgent, defineWorkflow, docker, type Harness, type Model, virtual } from 'berth';
import { pino } from 'pino';
import { compare } from './compare.ts';

const logger = pino({ level: 'error' });
const MiB = 1024 * 1024;
const usage = { input: 1, output: 1, reasoning: 0, cacheRead: 0, cacheWrite: 0, totalTokens: 2, cost: null };

/** Calls a tool so often, in one turn or in one after the other, and then says that it is done. */
function answering(tool: string, input: object, { calls, turns = 1 }: { calls: number; turns?: number }): Model {
  let id = 0;
  return {
    provider: 'scripted',
    id: 'at-once',
    async *stream({ messages }) {
      const answered = messages.filter(({ role }) => role === 'assistant').length;
      if (answered < turns && calls > 0) {
        for (let index = 0; index < calls / turns; index++) {
          yield { type: 'tool-call', index, toolCallId: `call_${id++}`, toolName: tool, input: JSON.stringify(input) };
        }
        yield { type: 'finish', finishReason: 'tool-calls', usage };
      } else {
        yield { type: 'text-delta', index: 0, text: 'Done.' };
        yield { type: 'finish', finishReason: 'stop', usage };
      }
    },
  };
}

const directory = await mkdtemp(join(tmpdir(), 'berth-bench-'));
try {
  for (const [where, store] of Object.entries({ memory: ':memory:', 'a file': join(directory, 'runtime.db') })) {
    await inRun({ store, sandbox: virtual({ files: { file: 'text\n' } }) }, async (harness) => {
      const read = (turns: number) => operation(harness, answering('read', { path: 'file' }, { calls: 10, turns }));
      await compare(
        `an operation on virtual(), its records in ${where}`,
        {
          'ten tool calls in one turn': () => read(1),
          'ten tool calls in ten turns': () => read(10),
          'no tool call': () => operation(harness, answering('read', {}, { calls: 0 })),
        },
        { rounds: 200 },
      );
    });
  }

  await inRun({ store: join(directory, 'docker.db'), sandbox: docker() }, async (harness) => {
    const { session } = harness.sandbox;
    if (!session) throw new Error('docker() has a session');
    const bash = answering('bash', { command: 'true' }, { calls: 1 });
    await compare(
      'a command over docker(), its records in a file',
      {
        'sandbox.exec': () => session.exec('exec bash -c true'),
        'harness.shell': () => harness.shell('exec bash -c true'),
        'a call of bash: from the answer of the model to the next request': () => toolCall(harness, bash),
        'an operation with a call of bash, and its two turns': () => operation(harness, bash),
        'an operation without a call, of one turn': () => operation(harness, answering('bash', {}, { calls: 0 })),
      },
      { rounds: 300 },
    );
  });

  await inRun({ store: join(directory, 'sessions.db'), sandbox: virtual() }, async (harness) => {
    const [sessions, messages] = [1_000, 100];
    const model = answering('read', {}, { calls: 0 });
    for (let i = 0; i < sessions; i++) {
      const session = await harness.session(`s${i}`);
      for (let said = 0; said < messages; said += 2) await session.prompt('x'.repeat(500), { model });
    }
    const { rss } = process.memoryUsage();
    console.log(`\n${sessions.toLocaleString('en')} sessions of ${messages} messages, their records in a file`);
    console.log(`  ${(rss / MiB).toFixed(0)} MiB, all of this process`);
  });

  const store = join(directory, 'instances.db');
  await converse(store, { instance: 'long', records: 10_000 });
  await compare(
    'a message to an agent instance of an earlier process, until the model is asked',
    {
      'with 10,000 records': () => firstRequest(store, 'long'),
      'the first one of an instance': () => firstRequest(store, `new-${performance.now()}`),
    },
    { rounds: 20 },
  );
} finally {
  await rm(directory, { recursive: true, force: true });
}

/** In a session of its own, which is gone afterwards: a conversation that grows would be slower each time. */
async function operation(harness: Harness, model: Model): Promise<void> {
  const session = await harness.session();
  await session.prompt('Go.', { model });
  await session.delete();
}

/** Milliseconds of what is done between two turns, where the first one calls a tool. */
async function toolCall(harness: Harness, model: Model): Promise<number> {
  const times: number[] = [];
  const timed: Model = {
    ...model,
    async *stream(...request) {
      times.push(performance.now());
      for await (const event of model.stream(...request)) {
        if (event.type === 'finish') times.push(performance.now()); // who reads it asks for no more
        yield event;
      }
    },
  };
  await operation(harness, timed);
  const [, answered = Number.NaN, askedAgain = Number.NaN] = times;
  return askedAgain - answered;
}

/** Fills the conversation of an agent instance: 13 records a message. */
async function converse(store: string, { instance, records }: { instance: string; records: number }): Promise<void> {
  await using runtime = await createRuntime({ store, sandbox: virtual({ files: { file: 'text\n' } }), logger });
  let asked = 0;
  const calls = Array.from({ length: 10 }, (_, index) => ({ index, toolName: 'read', input: '{"path":"file"}' }));
  const model: Model = {
    provider: 'scripted',
    id: 'reads',
    async *stream() {
      if (asked++ % 2 === 0) {
        for (const call of calls) yield { type: 'tool-call', toolCallId: `call_${asked}_${call.index}`, ...call };
        yield { type: 'finish', finishReason: 'tool-calls', usage };
      } else {
        yield { type: 'text-delta', index: 0, text: 'Done.' };
        yield { type: 'finish', finishReason: 'stop', usage };
      }
    },
  };
  const agent = defineAgent(() => ({ model }), { name: 'bench' });
  for (let written = 0; written < records; written += 13) {
    await (await runtime.dispatch(agent, { instance, message: 'x'.repeat(500) })).result();
  }
}

/** Milliseconds from a message in a new runtime to the request. */
async function firstRequest(store: string, instance: string): Promise<number> {
  await using runtime = await createRuntime({ store, sandbox: virtual(), logger });
  let askedAt = Number.NaN;
  const model = answering('read', {}, { calls: 0 });
  const noting: Model = {
    ...model,
    stream(...request) {
      askedAt = performance.now();
      return model.stream(...request);
    },
  };
  const agent = defineAgent(() => ({ model: noting }), { name: 'bench' });
  const sentAt = performance.now();
  await (await runtime.dispatch(agent, { instance, message: 'Go.' })).result();
  return askedAt - sentAt;
}

async function inRun(
  options: Parameters<typeof createRuntime>[0],
  work: (harness: Harness) => Promise<void>,
): Promise<void> {
  await using runtime = await createRuntime(options);
  const agent = defineAgent(() => ({ workspaceContext: false }));
  const run = await runtime.invoke(defineWorkflow({ name: 'bench', agent, run: ({ harness }) => work(harness) }));
  await run.result();
}
