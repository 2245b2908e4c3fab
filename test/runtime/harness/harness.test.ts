import { getEventListeners } from 'node:events';
import * as v from 'valibot';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from './harness-bench.ts';

const echo = defineAction({
  name: 'echo',
  description: 'Gives back what it gets.',
  input: v.object({ text: v.optional(v.string(), 'nothing') }),
  output: v.object({ text: v.string() }),
  run: ({ input }) => ({ text: input.text }),
});

describe('sessions of a harness', () => {
  // contract: 3.1-session, 3.1-session-default
  test('are made once per name, also by calls at the same time', async () => {
    await using bench = await harnessBench();
    const { harness } = bench;
    const [a, b, other] = await Promise.all([harness.session(), harness.session('default'), harness.session('other')]);
    expect(a).toBe(b);
    expect(a.name).toBe('default');
    expect(other.conversationId).not.toBe(a.conversationId);
    expect(await harness.sessions.get()).toBe(a);
  });

  // contract: 3.1-sessions-get, 3.1-sessions-create
  test('can be asked for only when they are there, and made only when they are not', async () => {
    await using bench = await harnessBench();
    const { sessions } = bench.harness;
    await expect(sessions.get('x')).rejects.toMatchObject({ name: 'SessionNotFoundError', meta: { session: 'x' } });
    const made = await sessions.create('x');
    expect(await sessions.get('x')).toBe(made);
    await expect(sessions.create('x')).rejects.toMatchObject({ code: 'session_already_exists', status: 409 });
  });

  // contract: 1.1-names-sessions
  test.each([[''], ['a'.repeat(129)], ['a\nb'], ['\u0085'], ['task:x'], ['action:x']])(
    'refuse the name %j',
    async (name) => {
      await using bench = await harnessBench();
      await expect(bench.harness.session(name)).rejects.toMatchObject({ name: 'InvalidRequestError', status: 400 });
      await expect(bench.harness.sessions.create(name)).rejects.toMatchObject({ name: 'InvalidRequestError' });
    },
  );

  // contract: 1.1-names-sessions
  test('take a name of 1 to 128 characters', async () => {
    await using bench = await harnessBench();
    for (const name of ['a', ' ', 'ü task:', 'a'.repeat(128)]) {
      expect((await bench.harness.session(name)).name).toBe(name);
    }
  });

  // contract: 3.2-delete, 3.2-delete-name
  test('free their name when they are deleted; the old object is dead and can not harm the new one', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['Hello.']) });
    const old = await bench.harness.session();
    await old.prompt('Hi.');
    await old.delete();
    expect(await old.history()).toEqual([]);
    await expect(old.prompt('Again.')).rejects.toMatchObject({ name: 'HarnessClosedError' });
    const fresh = await bench.harness.sessions.create();
    await old.delete();
    expect(await bench.harness.session()).toBe(fresh);
  });
});

describe('harness.shell', () => {
  // contract: 3.2-shell-result, 3.1-shell-events, 8-tool, 8-operation
  // contract: 8-ends-whole
  test('gives a failing command as a result, and tells of it as a call of bash in an operation', async () => {
    await using bench = await harnessBench();
    const result = await bench.harness.shell('echo out; echo err >&2; exit 2');
    expect(result).toMatchObject({ exitCode: 2, stdout: 'out\n', stderr: 'err\n' });
    expect(bench.types()).toEqual([
      'operation_start',
      'tool_start',
      'tool_output',
      'tool_output',
      'tool',
      'operation',
      'idle',
    ]);
    expect(bench.of('tool')[0]).toMatchObject({
      toolName: 'bash',
      isError: false,
      result: { content: [{ text: 'out\n\nerr\n\nExit code: 2' }], details: { exitCode: 2 } },
    });
    expect(bench.of('operation')[0]).toMatchObject({ operationKind: 'shell', isError: false, result: { exitCode: 2 } });
  });

  // contract: 3.2-shell-env, 3.2-shell-redacted, 8-no-env
  test('shows names of variables, never their values', async () => {
    await using bench = await harnessBench();
    const { stdout } = await bench.harness.shell('test "$TOKEN" = hunter2 && echo same', { env: { TOKEN: 'hunter2' } });
    expect(stdout).toBe('same\n');
    expect(bench.of('tool_start')[0]?.args).toMatchObject({ env: { TOKEN: '<redacted>' } });
    expect(JSON.stringify(bench.events.filter(({ type }) => type !== 'tool_start'))).not.toContain('hunter2');
    expect(JSON.stringify(bench.of('tool_start')[0]?.args).replace('"$TOKEN\\" = hunter2', '')).not.toMatch(
      /:"hunter2"/,
    );
  });

  // contract: 3.2-shell-timeout, 3.2-shell-max-output
  test('kills at a timeout with code 124, and keeps the newest bytes of what is too much', async () => {
    await using bench = await harnessBench();
    expect(await bench.harness.shell('echo a; sleep 1201', { timeoutMs: 200 })).toMatchObject({
      exitCode: 124,
      timedOut: true,
      stdout: 'a\n',
    });
    expect(JSON.stringify(bench.of('tool')[0]?.result)).toContain('Killed after 0.2 s');
    expect(await bench.harness.shell('printf 12345', { maxOutput: 2 })).toMatchObject({
      stdout: '45',
      truncated: true,
    });
  });

  // contract: 8-tool-output
  test('shows a character that two pieces of output share once it is whole, and what is left of one at the end', async () => {
    await using bench = await harnessBench();
    await bench.harness.shell("printf '\\303'; sleep 0.2; printf '\\274'; printf '\\303'");
    expect(
      bench
        .of('tool_output')
        .map(({ text }) => text)
        .join(''),
    ).toBe('ü\uFFFD');
  });

  // contract: 8-tool-output-limit
  test('shows a megabyte of what a command prints without end, and says that there is more', async () => {
    await using bench = await harnessBench();
    const { stdoutBytes } = await bench.harness.shell("yes ü | head -c 30000000; printf 'the error' >&2");
    expect(stdoutBytes).toBe(30_000_000);
    const shown = (name: string) =>
      bench
        .of('tool_output')
        .flatMap(({ stream, text }) => (stream === name ? text : []))
        .join('');
    expect(shown('stdout')).toBe(`${'ü\n'.repeat(512 * 1024)}\n[More output came, which is not shown here.]\n`);
    expect(shown('stderr')).toBe('the error');
  });

  // contract: 3.2-refused-before
  test('refuses a command that is no text, and a time of 0 or less', async () => {
    await using bench = await harnessBench();
    const refused = { name: 'InvalidRequestError' };
    await expect(bench.harness.shell(5 as unknown as string)).rejects.toMatchObject(refused);
    for (const timeoutMs of [0, -1, Number.NaN]) {
      await expect(bench.harness.shell('true', { timeoutMs })).rejects.toMatchObject(refused);
      await expect((await bench.harness.session()).shell('true', { timeoutMs })).rejects.toMatchObject(refused);
    }
    expect(await (await bench.harness.session()).history()).toEqual([]);
  });

  // contract: 3.2-shell-cwd
  test('resolves its directory against that of the harness', async () => {
    await using bench = await harnessBench();
    await bench.harness.fs.mkdir('sub');
    expect((await bench.harness.shell('pwd', { cwd: 'sub' })).stdout).toBe(`${bench.cwd}/sub\n`);
  });

  // contract: 3.2-shell-abort, 3.4-abort-commands, 3.4-abort-awaits, 3.4-abort-error, 3.2-handle, 8-operation
  test('rejects with the reason when it is aborted, when the command has ended', async () => {
    await using bench = await harnessBench();
    const call = bench.harness.shell('sleep 1202 & echo $!; sleep 1202');
    bench.observe((event) => event.type === 'tool_output' && call.abort('enough'));
    await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    const pid = bench.of('tool_output')[0]?.text.trim();
    expect(await bench.env.exists(`/proc/${pid}/cwd/.`)).toBe(false);
    expect(call.signal.aborted).toBe(true);
    expect(bench.of('operation')[0]).toMatchObject({ isError: true, error: { name: 'AbortError' } });
  });
});

describe('an operation', () => {
  // contract: 3.4-abort-before
  test('starts nothing and tells nothing when it is aborted already', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['never']) });
    const signal = AbortSignal.abort('before');
    const session = await bench.harness.session();
    const aborted = expect.objectContaining({ name: 'AbortError', cause: 'before' });
    await expect(bench.harness.shell('touch never', { signal })).rejects.toEqual(aborted);
    await expect(bench.harness.run(echo, {}, { signal })).rejects.toEqual(aborted);
    await expect(session.prompt('Never.', { signal })).rejects.toEqual(aborted);
    await expect(session.shell('touch never', { signal })).rejects.toEqual(aborted);
    expect(await bench.harness.fs.exists('never')).toBe(false);
    expect(await session.history()).toEqual([]);
    expect(bench.events).toEqual([]);
  });

  // contract: 8-operation, 8-numbers, 3.4-side-by-side
  test('ends once it is told of, and is idle then; its number has no gap', async () => {
    await using bench = await harnessBench();
    await Promise.all([bench.harness.shell('echo 1'), bench.harness.shell('echo 2')]);
    expect(bench.events.map(({ eventIndex }) => eventIndex)).toEqual(bench.events.map((_, i) => i));
    const [first, second] = bench.of('operation_start').map(({ operationId }) => operationId);
    expect(first).not.toBe(second);
    for (const operationId of [first, second]) {
      const own = bench.events.filter((event) => event.operationId === operationId).map(({ type }) => type);
      expect(own).toEqual(['operation_start', 'tool_start', 'tool_output', 'tool', 'operation', 'idle']);
    }
  });

  test('of many at once under one signal gives no warning of Node about its listeners', async () => {
    const warnings: string[] = [];
    const onWarning = ({ message }: Error) => warnings.push(message);
    process.on('warning', onWarning);
    await using bench = await harnessBench();
    const { signal } = new AbortController();
    await Promise.all(Array.from({ length: 12 }, () => bench.harness.shell('true', { signal })));
    await bench.harness.fs.writeFile('a', 'x');
    await Promise.all(Array.from({ length: 12 }, () => bench.harness.fs.createReadStream('a').toArray()));
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });

  // contract: 2-end-dropped
  test('that nobody awaits causes no unhandled rejection', async () => {
    const unhandled: unknown[] = [];
    const onUnhandled = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', onUnhandled);
    await using bench = await harnessBench();
    void bench.harness.shell('true', { signal: AbortSignal.abort() });
    void bench.harness.shell('sleep 1203').abort();
    void (await bench.harness.session()).prompt('No model.');
    const fail = defineAction({ name: 'fail', description: 'Fails.', run: () => Promise.reject(new Error('no')) });
    void bench.harness.run(fail);
    await bench.harness.close();
    void bench.harness.shell('true');
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', onUnhandled);
    expect(unhandled).toEqual([]);
  });
});

describe('the end of a harness', () => {
  test('leaves no listener on a signal that outlives its calls, however many there are', async () => {
    const turns = Array.from({ length: 20 }, () => [
      { toolCalls: [{ name: 'act' }, { name: 'bash', input: { command: 'true' } }] },
      'Done.',
    ]);
    const act = defineAction({ name: 'act', description: 'A.', timeoutMs: 60_000, run: ({ harness }) => harness.name });
    await using bench = await harnessBench({ model: scriptedModel(turns.flat()), actions: [act] });
    const { signal } = new AbortController();
    const session = await bench.harness.session();
    const listeners = () =>
      [signal, bench.stop.signal, bench.harness.signal].map((of) => getEventListeners(of, 'abort').length);
    const before = listeners();
    for (let i = 0; i < 20; i++) {
      await session.prompt('Go.', { signal });
      await bench.harness.run(act, undefined, { signal });
      await bench.harness.shell('true', { signal });
    }
    await new Promise((resolve) => setImmediate(resolve));
    expect(listeners()).toEqual(before);
  });

  // contract: 2-end-aborts, 2-end-silent
  test('aborts and awaits what is open, and nothing is told afterwards', async () => {
    await using bench = await harnessBench();
    const { harness } = bench;
    const started = bench.next('tool_start');
    const call = harness.shell('sleep 1204');
    await started;
    await harness.close();
    const told = bench.events.length;
    expect(bench.events.at(-1)).toMatchObject({ type: 'idle' });
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    harness.log().info('late');
    expect(bench.events).toHaveLength(told);
  });

  // contract: 2-end-closed, 2-end-readable
  test('refuses every later call, and keeps the conversations readable', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['Hello.']) });
    const { harness } = bench;
    const session = await harness.session();
    await session.prompt('Hi.');
    await harness.close();
    await harness.close();
    const closed = { name: 'HarnessClosedError', code: 'harness_closed' };
    await expect(harness.shell('true')).rejects.toMatchObject(closed);
    await expect(harness.run(echo)).rejects.toMatchObject(closed);
    await expect(harness.session('new')).rejects.toMatchObject(closed);
    await expect(session.prompt('Again.')).rejects.toMatchObject(closed);
    await expect(harness.sandbox.exec('true')).rejects.toMatchObject(closed);
    expect(() => harness.emit('x', 1)).toThrow(expect.objectContaining(closed));
    expect(await session.history()).toHaveLength(2);
  });

  // contract: 2-end-processes
  test('ends the processes that were left in the background', async () => {
    await using bench = await harnessBench();
    const { stdout: pid } = await bench.harness.shell('sleep 1205 >/dev/null 2>&1 & echo $!');
    await bench.harness.close();
    expect(await bench.env.exists(`/proc/${pid.trim()}/cwd/.`)).toBe(false);
  });

  test('removes the long outputs that were kept for the model', async () => {
    await using bench = await harnessBench();
    const session = await bench.harness.session();
    await session.shell('yes line | head -n 3000');
    const part = (await session.history())[1]?.parts[0];
    const path = part?.type === 'dynamic-tool' ? /\/tmp\/\S+\.txt/.exec(String(part.output))?.[0] : undefined;
    expect(await bench.env.exists(path ?? '')).toBe(true);
    await bench.harness.close();
    expect(await bench.env.exists(path ?? '')).toBe(false);
  });
});

describe('harness.emit', () => {
  // contract: 3.1-emit, 8-data, 3.1-name
  test('writes a data event, with a copy that later changes do not reach', async () => {
    await using bench = await harnessBench();
    const data = { done: 1 };
    bench.harness.emit('progress', data, { id: 'a' });
    data.done = 2;
    await bench.next('data');
    expect(bench.of('data')[0]).toMatchObject({ name: 'progress', id: 'a', data: { done: 1 }, harness: 'default' });
  });
});

describe('harness.run', () => {
  // contract: 1.4-types
  test('takes input and gives output by the types of the action', () => {
    const check = async (harness: Harness) => {
      expectTypeOf(await harness.run(echo, { text: 'x' })).toEqualTypeOf<{ text: string }>();
      await harness.run(echo);
      // @ts-expect-error: not the type of the schema
      await harness.run(echo, { text: 1 });
      const needy = defineAction({ name: 'n', description: 'n', input: v.object({ a: v.string() }), run: () => 1 });
      // @ts-expect-error: `a` is needed
      await harness.run(needy);
      const bare = defineAction({ name: 'b', description: 'b', run: () => {} });
      expectTypeOf(await harness.run(bare)).toEqualTypeOf<null>();
      // @ts-expect-error: it takes no input
      await harness.run(bare, {});
    };
    expect(check).toBeTypeOf('function');
  });

  // contract: 1.1-identity
  test('refuses a copy of an action, known by identity', async () => {
    await using bench = await harnessBench();
    await expect(bench.harness.run({ ...echo })).rejects.toMatchObject({ name: 'InvalidRequestError' });
  });

  // contract: 2-child-sessions, 2-child-files, 2-child-processes, 2-child-scope, 2-run-output, 8-action, 3.1-fs
  test('runs in a child harness: other sessions and processes, the same files', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['In the child.']) });
    const { harness } = bench;
    const parent = await harness.session();
    await harness.fs.writeFile('shared', 'from the parent');
    const child = defineAction({
      name: 'child',
      description: 'Looks around.',
      async run({ harness: own }) {
        const session = await own.session();
        const before = await session.history();
        await session.prompt('Hello.');
        await own.shell('sleep 1206 >/dev/null 2>&1 & echo $! > pid');
        return {
          name: own.name,
          conversationId: session.conversationId,
          before: before.length,
          file: await own.fs.readFile('shared'),
        };
      },
    });
    const seen = await harness.run(child);
    expect(seen.name).toMatch(/^action:/);
    expect(seen.conversationId).not.toBe(parent.conversationId);
    expect(seen).toMatchObject({ before: 0, file: 'from the parent' });
    expect(await parent.history()).toEqual([]);
    const pid = (await harness.fs.readFile('pid')).trim();
    expect(await bench.env.exists(`/proc/${pid}/cwd/.`)).toBe(false);
    const [start, end] = [bench.of('action_start')[0], bench.of('action')[0]];
    expect(start).toMatchObject({ action: 'child', harness: 'default' });
    expect(end).toMatchObject({ action: 'child', isError: false, result: { name: seen.name } });
    const inside = bench.events.filter((event) => event.harness === seen.name);
    expect(inside.every(({ actionId }) => actionId === start?.actionId)).toBe(true);
    const numbers = inside.map(({ eventIndex }) => eventIndex);
    expect(Math.min(...numbers)).toBeGreaterThan(start?.eventIndex ?? 0);
    expect(Math.max(...numbers)).toBeLessThan(end?.eventIndex ?? 0);
  });

  // contract: 4.4-below, 4.4-action, 4.4-sum
  test('sums the usage of all that is below it, each request once', async () => {
    const turn = { text: 'x', usage: { input: 10, output: 1 } };
    await using bench = await harnessBench({ model: scriptedModel([turn, turn, turn]) });
    const inner = defineAction({
      name: 'inner',
      description: 'Asks once.',
      run: async ({ harness }) => void (await (await harness.session()).prompt('inner')),
    });
    const outer = defineAction({
      name: 'outer',
      description: 'Asks once, and has another ask.',
      async run({ harness }) {
        await (await harness.session()).prompt('outer');
        await harness.run(inner);
      },
    });
    await bench.harness.run(outer);
    await (await bench.harness.session()).prompt('root');
    const usage = bench.of('action').map((event) => [event.action, event.usage?.totalTokens]);
    expect(usage).toEqual([
      ['inner', 11],
      ['outer', 22],
    ]);
    expect(bench.of('operation').map((event) => event.usage?.totalTokens)).toEqual([11, 11, 11, 22, 11]);
    expect(bench.meter.total.totalTokens).toBe(33);
  });

  // contract: 2-depth
  test('goes four deep, and no further', async () => {
    await using bench = await harnessBench();
    const depths: string[] = [];
    const dig = defineAction({
      name: 'dig',
      description: 'Digs.',
      async run({ harness }): Promise<void> {
        depths.push(harness.name);
        await harness.run(dig);
      },
    });
    await expect(bench.harness.run(dig)).rejects.toMatchObject({
      name: 'DelegationDepthExceededError',
      meta: { maxDepth: 4 },
    });
    expect(depths).toHaveLength(4);
    expect(bench.of('action_start')).toHaveLength(4);
    expect(bench.of('action')).toHaveLength(4);
  });

  // contract: 3.4-abort-actions, 3.4-abort-awaits, 8-order
  test('when the caller is aborted ends with all that is below, children first', async () => {
    await using bench = await harnessBench();
    const inner = defineAction({
      name: 'inner',
      description: 'Waits.',
      run: async ({ harness }) => void (await harness.shell('sleep 1207')),
    });
    const outer = defineAction({
      name: 'outer',
      description: 'Waits for another.',
      run: async ({ harness }) => void (await harness.run(inner)),
    });
    const call = bench.harness.run(outer);
    bench.observe((event) => event.type === 'tool_start' && call.abort('enough'));
    await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    expect(bench.types()).toEqual([
      'operation_start',
      'action_start',
      'operation_start',
      'action_start',
      'operation_start',
      'tool_start',
      'tool',
      'operation',
      'idle',
      'action',
      'operation',
      'idle',
      'action',
      'operation',
      'idle',
    ]);
  });
});
