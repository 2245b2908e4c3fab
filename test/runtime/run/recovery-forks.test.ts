import { spawnSync } from 'node:child_process';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import * as v from 'valibot';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow, type WorkflowDefinition } from '../../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { createRuntime, type Runtime } from '../../../src/runtime/run/runtime.ts';
import { diskSandbox } from '../../support/disk-sandbox.ts';
import { interruptedCopy } from '../../support/interrupted.ts';
import { eventsOf, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const agent = defineAgent(() => ({ workspaceContext: false }));

/** A runtime with the store and the sandbox of that name. */
function open(directory: string, name: string, workflow: WorkflowDefinition): Promise<Runtime> {
  return createRuntime({
    store: join(directory, `${name}.db`),
    sandbox: diskSandbox(join(directory, name)),
    logger: pino({ level: 'silent' }),
    workflows: { w: workflow },
  });
}

/** What a process would leave that died now: its store and its sandbox, under a new name. */
function copy(directory: string, from: string, to: string): number {
  const last = interruptedCopy(join(directory, `${from}.db`), join(directory, `${to}.db`));
  spawnSync('rm', ['-rf', join(directory, to)]);
  spawnSync('cp', ['-a', join(directory, from), join(directory, to)]);
  return last;
}

/** Runs a workflow until an event, and gives the name of what its process would have left right after that. */
async function leftAt(directory: string, workflow: WorkflowDefinition, when: (event: RuntimeEvent) => boolean) {
  const runtime = await open(directory, 'first', workflow);
  const isThere = gate();
  const stop = runtime.observe((event) => {
    if (!when(event)) return;
    stop();
    copy(directory, 'first', 'left');
    isThere.open();
  });
  await runtime.invoke('w', { id: 'the-run' });
  await isThere.promise;
  await runtime.close({ timeoutMs: 0 });
  return 'left';
}

const isOperation = (type: 'operation_start' | 'operation', kind: string) => (event: RuntimeEvent) =>
  event.type === type && event.operationKind === kind;

const forksOf = (directory: string, name: string) => readdir(join(directory, name, 'forks'));

// contract: 11.4-goes-on
test('a run with forks goes on wherever it was interrupted, and comes to the same files and the same end', async ({
  directory,
}) => {
  const inner = defineAction({
    name: 'inner',
    description: 'Writes.',
    files: 'transaction',
    run: async ({ harness }) => {
      await harness.fs.writeFile('inner', 'inner');
      return harness.step('number', () => 1);
    },
  });
  const change = defineAction({
    name: 'change',
    description: 'Changes.',
    files: 'transaction',
    input: v.object({ fails: v.boolean() }),
    run: async ({ harness, input }) => {
      await harness.shell('rm -f start; echo changed > changed');
      const number = await harness.run(inner);
      if (input.fails) throw new Error('no good');
      return number + 1;
    },
  });
  const workflow = defineWorkflow({
    agent,
    files: 'transaction',
    run: async ({ harness }) => {
      await harness.shell('echo start > start');
      const changed = await harness.run(change, { fails: false });
      const checkpoint = await harness.checkpoint();
      await harness.shell('rm -f changed; echo junk > junk');
      await checkpoint.rollback();
      const best = await harness.attempt(
        async ({ harness: own, attempt }) => {
          await own.shell(`echo ${attempt} > best`);
          await own.fs.writeFile(`of-${attempt}`, '');
          if (attempt === 2) throw new Error('this one fails');
          return attempt * 10;
        },
        { count: 3, choose: (completed) => completed.at(-1)?.attempt ?? 0 },
      );
      const failed = await harness.run(change, { fails: true }).catch((error: Error) => error.message);
      await harness.shell('echo end > end');
      const { stdout } = await harness.shell('for f in *; do echo "$f=$(cat $f)"; done');
      return { changed, best, failed, files: stdout.trim().split('\n') };
    },
  });
  const left = new Map<number, string>();
  {
    await using runtime = await open(directory, 'first', workflow);
    runtime.observe(({ eventIndex }) =>
      left.set(copy(directory, 'first', `after-${eventIndex}`), `after-${eventIndex}`),
    );
    expect(await (await runtime.invoke('w', { id: 'the-run' })).result()).toEqual({
      changed: 2,
      best: 30,
      failed: 'no good',
      files: ['best=3', 'changed=changed', 'end=end', 'inner=inner', 'of-3='],
    });
  }
  const files = await readdir(join(directory, 'first', 'files'));
  expect(files).toEqual(['best', 'changed', 'end', 'inner', 'of-3']);
  expect(left.size).toBeGreaterThan(20);
  const goesOn = async (name: string) => {
    await using later = await open(directory, name, workflow);
    const run = await later.run('the-run');
    expect(await run.result(), name).toMatchObject({ changed: 2, best: 30, failed: 'no good' });
    expect(await readdir(join(directory, name, 'files')), name).toEqual(files);
    expect(await forksOf(directory, name), name).toEqual([]);
    const told = await eventsOf(run);
    expect(told.map(({ eventIndex }) => eventIndex)).toEqual(told.map((_, index) => index));
    const began = told.flatMap((event) => (event.type === 'action_start' ? [event.actionId] : []));
    expect(new Set(began).size, name).toBe(began.length);
  };
  // Every second one, which are some twenty processes; all are tried with INTERRUPTED_AFTER_ALL=1.
  const every = process.env.INTERRUPTED_AFTER_ALL ? 1 : 2;
  const names = [...left.values()].filter((_, index) => index % every === 0).values();
  const worker = async () => {
    for (const name of names) await goesOn(name); // they share one iterator
  };
  await Promise.all([worker(), worker(), worker()]);
}, 300_000); // each with commands

// contract: 11.4-goes-on
test('an attempt that completed is not run again, nor is what was chosen chosen again', async ({ directory }) => {
  const ran: unknown[] = [];
  const workflow = (chosen: number | Promise<number>) =>
    defineWorkflow({
      agent,
      run: async ({ harness }) => {
        const value = await harness.attempt(
          async ({ harness: own, attempt }) => {
            ran.push(attempt);
            await own.fs.writeFile('best', `${attempt}`);
            return attempt;
          },
          {
            count: 2,
            choose: (completed) => {
              ran.push(completed.map(({ attempt }) => attempt));
              return chosen;
            },
          },
        );
        await harness.step('after', () => ran.push('after'));
        return { value, best: await harness.fs.readFile('best') };
      },
    });
  let ended = 0;
  const bothEnded = (event: RuntimeEvent) => event.type === 'action' && ++ended === 2;
  const name = await leftAt(directory, workflow(new Promise(() => {})), bothEnded);
  const before = ran.splice(0);
  expect(before.slice(0, 2).sort()).toEqual([1, 2]);
  {
    await using later = await open(directory, name, workflow(2));
    const run = await later.run('the-run');
    expect(await run.result()).toEqual({ value: 2, best: '2' });
    expect(ran).toEqual([[1, 2], 'after']);
  }
  expect(await forksOf(directory, name)).toEqual([]);
});

// contract: 11.4-gone
test('fails where a fork that is needed is gone', async ({ directory }) => {
  const change = defineAction({
    name: 'change',
    description: 'Changes.',
    files: 'transaction',
    run: ({ harness }) => harness.step('hangs', () => new Promise<number>(() => {})),
  });
  const workflow = defineWorkflow({ agent, run: ({ harness }) => harness.run(change) });
  const name = await leftAt(directory, workflow, isOperation('operation_start', 'step'));
  expect(await forksOf(directory, name)).toHaveLength(1);
  await rm(join(directory, name, 'forks'), { recursive: true });
  await using later = await open(directory, name, workflow);
  await expect((await later.run('the-run')).result()).rejects.toMatchObject({ name: 'SandboxGoneError' });
});

// contract: 11.4-goes-on
test('a run that is closed while it works in forks goes on in them', async ({ directory }) => {
  const begun = gate();
  const goOn = gate();
  const workflow = defineWorkflow({
    agent,
    run: async ({ harness }) => {
      const value = await harness.attempt(
        async ({ harness: own, attempt }) => {
          await own.shell(`echo ${attempt} >> made`);
          if (attempt === 2) begun.open();
          await goOn.promise;
          return (await own.shell('cat made')).stdout;
        },
        { count: 2 },
      );
      return { value, made: await harness.fs.readFile('made') };
    },
  });
  {
    await using runtime = await open(directory, 'first', workflow);
    await runtime.invoke('w', { id: 'the-run' });
    await begun.promise;
  }
  expect(await forksOf(directory, 'first')).toHaveLength(2);
  goOn.open();
  await using later = await open(directory, 'first', workflow);
  expect(await (await later.run('the-run')).result()).toEqual({ value: '1\n', made: '1\n' });
  expect(await forksOf(directory, 'first')).toEqual([]);
});
