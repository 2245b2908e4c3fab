// What the runtime adds: model loop, tools, events and records, with a scripted model that answers at once.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRuntime, defineAgent, defineWorkflow, docker, type Harness, type Model, virtual } from 'berth';
import { compare } from './compare.ts';

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
} finally {
  await rm(directory, { recursive: true, force: true });
}

/** In a session of its own, which is gone afterwards: a conversation that grows would be slower each time. */
async function operation(harness: Harness, model: Model): Promise<void> {
  const session = await harness.session();
  await session.prompt('Go.', { model });
  await session.delete();
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
