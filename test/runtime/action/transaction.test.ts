import { once } from 'node:events';
import { pino } from 'pino';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import type { SandboxEnv, SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { virtual } from '../../../src/runtime/sandbox/virtual.ts';
import type { FilesConflictError } from '../../../src/sandbox/errors.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf, ofType } from '../../support/runtime.ts';
import { filesOf, inVirtual } from '../../support/virtual-run.ts';
import { gate } from '../model/conversation-of.ts';

const silent = pino({ level: 'silent' });
const start = { 'a.txt': 'a', 'b.txt': 'b' };

/** An action whose files are a transaction. */
function transaction(
  run: (harness: Harness, signal: AbortSignal) => unknown,
  more: { timeoutMs?: number; output?: v.GenericSchema } = {},
) {
  return defineAction({
    name: 'change',
    description: 'Changes files.',
    files: 'transaction',
    run: ({ harness, signal }) => run(harness, signal),
    ...more,
  });
}

describe('an action whose files are a transaction', () => {
  // contract: 11.1-fork, 11.1-land
  test('works on files of its own, in all that it does; they are put in place with its output', async () => {
    const inner = defineAction({
      name: 'inner',
      description: 'Writes.',
      run: ({ harness }) => harness.fs.writeFile('of-inner', 'shared'),
    });
    const model = scriptedModel([
      { toolCalls: [{ name: 'write', input: { path: 'of-model', content: 'model' } }] },
      'Done.',
    ]);
    const { result } = await inVirtual(
      start,
      async (root) => {
        const seen: string[][] = [];
        const change = transaction(async (harness) => {
          expect(harness.sandbox.cwd).toBe(root.sandbox.cwd);
          await harness.shell('echo shell > of-shell; rm a.txt; ln -s b.txt link; mkdir d; chmod 755 b.txt');
          await harness.fs.writeFile('d/of-code', 'code');
          await harness.run(inner);
          await (await harness.session()).prompt('Write.');
          await harness.fs.writeFile('/elsewhere', 'ends with the fork');
          seen.push(await filesOf(root));
          return 'good';
        });
        seen.push([await root.run(change)].map(String), await filesOf(root));
        const { stdout } = await root.shell('readlink link; test -x b.txt && echo executable; ls /elsewhere');
        return { seen, stdout };
      },
      { model },
    );
    expect(result).toEqual({
      seen: [
        ['./a.txt=a', './b.txt=b'],
        ['good'],
        ['./b.txt=b', './d/of-code=code', './of-inner=shared', './of-model=model', './of-shell=shell'],
      ],
      stdout: 'b.txt\nexecutable\n',
    });
  });

  // contract: 11.1-nothing
  test('leaves the files as they were when it throws, is aborted, takes too long or gives no good output', async () => {
    const write = async (harness: Harness) => harness.fs.writeFile('a.txt', 'changed');
    const until = async (signal: AbortSignal) => {
      if (!signal.aborted) await once(signal, 'abort');
      throw new Error('whatever it throws then');
    };
    const { result } = await inVirtual(start, async (root) => {
      const stop = new AbortController();
      const failing = [
        root.run(
          transaction(async (harness) => {
            await write(harness);
            throw new Error('boom');
          }),
        ),
        root.run(transaction(write, { output: v.string() })),
        root.run(transaction(async (harness, signal) => write(harness).then(() => until(signal)), { timeoutMs: 50 })),
        root.run(
          transaction(async (harness, signal) => {
            await write(harness);
            stop.abort();
            return until(signal);
          }),
          undefined,
          { signal: stop.signal },
        ),
      ];
      const ends = await Promise.allSettled(failing);
      return [...ends.map((end) => end.status === 'rejected' && end.reason.name), await filesOf(root)];
    });
    expect(result).toEqual([
      'Error',
      'ActionOutputValidationError',
      'ActionTimeoutError',
      'AbortError',
      ['./a.txt=a', './b.txt=b'],
    ]);
  });

  // contract: 11.1-conflict
  test('fails where the same path was changed meanwhile in another way, and puts nothing in place', async () => {
    const { result } = await inVirtual(start, async (root) => {
      const change = transaction(async (harness) => {
        await root.shell('echo other > a.txt; echo same > new; rm b.txt; mkdir d; touch d/kept');
        await harness.shell('echo mine > a.txt; echo same > new; rm b.txt; echo more > only-here; echo file > d');
      });
      const error: FilesConflictError = await root.run(change).then(
        () => Promise.reject(new Error('it was put in place')),
        (reason) => reason,
      );
      return { name: error.name, meta: error.meta, files: await filesOf(root) };
    });
    expect(result).toEqual({
      name: 'FilesConflictError',
      meta: { paths: ['a.txt', 'd', 'd/kept'], count: 3 },
      files: ['./a.txt=other', './d/kept=', './new=same'],
    });
  });

  // contract: 11.1-conflict, 11.1-model
  test('has a fork of its own for each call of a turn; the model reads what it was that came too late', async () => {
    const both = gate();
    let begun = 0;
    const append = defineAction({
      name: 'append',
      description: 'Appends.',
      files: 'transaction',
      input: v.object({ to: v.string(), text: v.string() }),
      run: async ({ harness, input }) => {
        await harness.shell(`printf ${input.text} >> ${input.to}`);
        if (++begun === 3) both.open();
        await both.promise;
        return (await harness.fs.readFile(input.to)) ?? '';
      },
    });
    const call = (to: string, text: string) => ({ name: 'append', input: { to, text } });
    const model = scriptedModel([
      { toolCalls: [call('a.txt', '1'), call('a.txt', '2'), call('b.txt', '3')] },
      'Two came through.',
    ]);
    const { result } = await inVirtual(
      start,
      async (root) => {
        await (await root.session()).prompt('Append.');
        return filesOf(root);
      },
      { model, actions: [append] },
    );
    const results = model.requests[1]?.messages.filter(({ role }) => role === 'tool') ?? [];
    const refused = results.filter((message) => message.role === 'tool' && message.isError);
    expect(results).toHaveLength(3);
    expect(refused).toMatchObject([
      { content: [{ text: expect.stringMatching(/other work has changed the same files.*: a\.txt\..*again/) }] },
    ]);
    expect(result[0]).toMatch(/^\.\/a\.txt=a[12]$/);
    expect(result[1]).toBe('./b.txt=b3');
  });

  // contract: 11.1-nested
  test('lands in the fork that it was started in, when that is one', async () => {
    const { result } = await inVirtual(start, async (root) => {
      const inner = transaction((harness) => harness.fs.writeFile('a.txt', 'inner'));
      const seen: unknown[] = [];
      const outer = (fails: boolean) =>
        transaction(async (harness) => {
          await harness.fs.writeFile('b.txt', 'outer');
          await harness.run(inner);
          seen.push(await filesOf(harness), await filesOf(root));
          if (fails) throw new Error('boom');
        });
      await root.run(outer(true)).catch(() => {});
      seen.push(await filesOf(root));
      await root.run(outer(false));
      return [...seen.slice(0, 3), await filesOf(root)];
    });
    const [before, after] = [
      ['./a.txt=a', './b.txt=b'],
      ['./a.txt=inner', './b.txt=outer'],
    ];
    expect(result).toEqual([after, before, before, after]);
  });

  // contract: 11.1-unsupported
  test('is refused in a sandbox that can not be forked, before it has begun, with the factories that can', async () => {
    let begun = false;
    const change = transaction(() => {
      begun = true;
    });
    const given = { operation: "files: 'transaction'", supportedBy: ['docker()', 'virtual()'] };
    const { result } = await inVirtual(start, (root) => root.run(change).catch((error) => error), {
      sandbox: { createSandbox: (request) => local().createSandbox(request) },
    });
    expect(result).toMatchObject({ name: 'SandboxOperationUnsupportedError', meta: given });
    expect((result as unknown as Error).message).toContain('docker() or virtual()');
    expect(begun).toBe(false);
  });

  // contract: 11.1-root
  test('also as the work of a workflow: the sandbox gets the files of a run that is good', async () => {
    const closed: unknown[] = [];
    const factory: SandboxFactory = {
      async createSandbox(request) {
        const env = await virtual({ files: start }).createSandbox(request);
        const close = env.close.bind(env);
        return Object.assign(env, {
          async close(outcome: Parameters<SandboxEnv['close']>[0]) {
            closed.push(outcome, await env.readFile('a.txt'), await env.exists('b.txt'));
            await close(outcome);
          },
        });
      },
    };
    const agent = defineAgent(() => ({ workspaceContext: false, sandbox: factory }));
    const workflow = (fails: boolean) =>
      defineWorkflow({
        name: `fails-${fails}`,
        agent,
        files: 'transaction',
        output: v.number(),
        run: async ({ harness }) => {
          await harness.shell('echo -n new > a.txt; rm b.txt');
          return fails ? ('no number' as never) : 1;
        },
      });
    await using runtime = await createRuntime({ store: ':memory:', logger: silent });
    await expect((await runtime.invoke(workflow(true))).result()).rejects.toMatchObject({
      name: 'ActionOutputValidationError',
    });
    const run = await runtime.invoke(workflow(false));
    expect(await run.result()).toBe(1);
    expect(closed).toEqual(['failed', 'a', true, 'completed', 'new', false]);
    expect(ofType(await eventsOf(run), 'run_end')).toMatchObject([{ state: 'completed' }]);
  });

  // contract: 11.1-root
  test('also where the harness works in a directory outside of that of the sandbox', async () => {
    const { result } = await inVirtual(
      start,
      async (root) => {
        await root.shell('echo 1 > here');
        await root.run(transaction((harness) => harness.shell('echo 2 > here; echo 2 > /workspace/a.txt')));
        return (await root.shell('cat here /workspace/a.txt')).stdout;
      },
      { cwd: '/tmp' },
    );
    expect(result).toBe('2\na');
  });
});
