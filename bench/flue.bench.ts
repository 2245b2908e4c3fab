// The runtime against Flue's, each in a process of its own, with one provider on this machine that answers at once.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { chatEvents, type ProviderAnswer } from '../test/support/provider-server.ts';
import { compare } from './compare.ts';
import type { Memory, Order, SideOptions } from './flue-side.ts';

const flueVersion = '1.0.0-beta.9';
const MiB = 1024 * 1024;
const root = join(import.meta.dirname, '..');

const operations = {
  'no tool call': '0 calls in 0 turns',
  'ten tool calls in one turn': '10 calls in 1 turns',
  'ten tool calls in ten turns': '10 calls in 10 turns',
};

const directory = await mkdtemp(join(tmpdir(), 'berth-bench-'));
const provider = await startProvider();
const children: ChildProcess[] = [];
try {
  const node = await nodeForFlue();
  const sides = { Berth: {}, [`Flue ${flueVersion}`]: { flue: await installFlue() } };
  const openSides = async (records: string) => {
    const opened: [name: string, ChildProcess][] = [];
    for (const [name, side] of Object.entries(sides)) {
      const store = records === 'memory' ? ':memory:' : join(directory, `${children.length}.db`);
      opened.push([name, await openSide(node, { baseUrl: provider.baseUrl, store, ...side })]);
    }
    return opened;
  };

  for (const records of ['memory', 'a file']) {
    const opened = await openSides(records);
    let made = 0;
    const orders: Record<string, (text: string) => Order> = {
      'a run of one prompt': (text) => ({ run: { text, sessions: 1, prompts: 1 } }),
      'a message to a new agent instance': (text) => ({ instance: `i${made++}`, text }),
    };
    for (const [what, order] of Object.entries(orders)) {
      for (const [operation, text] of Object.entries(operations)) {
        const rows = opened.map(([name, child]) => [name, () => tell(child, order(text))] as const);
        await compare(`${what}, ${operation}, records in ${records}`, Object.fromEntries(rows), { rounds: 200 });
      }
    }
    await Promise.all(children.map(end));
  }

  const [sessions, messages] = [200, 20];
  const text = `${operations['no tool call']} ${'x'.repeat(500)}`;
  for (const records of ['memory', 'a file']) {
    console.log(`\n${sessions} sessions of ${messages} messages, in one run, records in ${records}`);
    for (const [name, child] of await openSides(records)) {
      const start = performance.now();
      const { started, worked } = await tell(child, { run: { text, sessions, prompts: messages / 2 } });
      const each = (performance.now() - start) / ((sessions * messages) / 2);
      const [before, after] = [started, worked].map((bytes) => (bytes / MiB).toFixed(0));
      console.log(
        `  ${name}: ${after} MiB, all of its process, which had ${before} MiB before; ${each.toFixed(1)} ms a prompt`,
      );
    }
    await Promise.all(children.map(end));
  }
} finally {
  await Promise.all(children.map(end));
  await provider.close();
  await rm(directory, { recursive: true, force: true });
}

/** For both sides: Flue wants Node 22.19 or later. */
async function nodeForFlue(): Promise<string> {
  if (Number.parseInt(process.versions.node, 10) > 20) return process.execPath;
  const { stdout } = await execa(process.execPath, [join(root, 'scripts', 'other-node.js')]);
  return join(stdout, 'node');
}

/** A module that has all that flue-side.ts takes of Flue, which no package of ours depends on. */
async function installFlue(): Promise<string> {
  const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  await execa('npm', [...install, '--prefix', directory, `@flue/runtime@${flueVersion}`], { cwd: directory });
  const module = join(directory, 'flue.mjs');
  const exports = ['', '/node', '/internal'].map((path) => `export * from '@flue/runtime${path}';\n`);
  await writeFile(module, exports.join(''));
  return module;
}

async function openSide(node: string, options: SideOptions): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, 'flue-side.ts'), [JSON.stringify(options)], {
    cwd: root,
    execPath: node,
    execArgv: ['--import', 'tsx'],
  });
  children.push(child);
  await answerOf(child);
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL'); // nothing of it is to be kept
  await exit;
}

/** Resolves when the order is carried out. */
function tell(child: ChildProcess, order: Order): Promise<Memory> {
  const answer = answerOf<Memory>(child);
  child.send(order);
  return answer;
}

async function answerOf<Answer>(child: ChildProcess): Promise<Answer> {
  const over = new AbortController();
  const ended = () => over.abort(new Error('One side has ended; its own messages are above.'));
  child.once('exit', ended);
  try {
    const [answer] = await once(child, 'message', { signal: over.signal });
    return answer;
  } finally {
    child.off('exit', ended);
  }
}

/** Does what the last message of the user says: so many calls of `read`, in so many turns; then it is done. */
async function startProvider() {
  const bodies = new Map<string, string>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { messages }: { messages: { role: string; content: unknown }[] } = JSON.parse(`${Buffer.concat(chunks)}`);
    const asked = messages.findLastIndex(({ role }) => role === 'user');
    const text = JSON.stringify(messages[asked]?.content);
    const [calls = 0, turns = 0] = (/(\d+) calls in (\d+) turns/.exec(text) ?? []).slice(1).map(Number);
    const since = messages.slice(asked + 1);
    const turn = since.filter(({ role }) => role === 'assistant').length;
    const read = since.filter(({ content }) => JSON.stringify(content).includes('its only line')).length;
    const key = [calls, turns, turn].join();
    const body = bodies.get(key) ?? eventStream(answer(calls, turns, turn));
    bodies.set(key, body);
    const isRight = read === (turn === 0 ? 0 : (calls / turns) * turn); // or the two sides would not do the same
    response.writeHead(isRight ? 200 : 400, { 'content-type': 'text/event-stream' }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // a TCP server that listens has one
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answer(calls: number, turns: number, turn: number): ProviderAnswer {
  if (turn >= turns) return { text: 'Done.' };
  const pieces = ['{"path":', '"file"}'];
  return {
    toolCalls: Array.from({ length: calls / turns }, (_, i) => ({ id: `call_${turn}_${i}`, name: 'read', pieces })),
  };
}

function eventStream(answer: ProviderAnswer): string {
  const events = chatEvents(answer).map((event) => (typeof event === 'string' ? event : JSON.stringify(event)));
  return events.map((event) => `data: ${event}\n\n`).join('');
}
