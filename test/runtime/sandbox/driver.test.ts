import { rm } from 'node:fs/promises';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { SandboxGoneError, SandboxOperationUnsupportedError } from '../../../src/runtime/errors.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { sandboxFromDriver } from '../../../src/runtime/sandbox/driver.ts';
import type { SandboxDriver, SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import { SandboxDiedError } from '../../../src/sandbox/errors.ts';
import { sandboxContract } from '../../../src/testing/sandbox-contract.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { localDriver, localEnv } from '../../support/local-env.ts';
import { eventsOf, ofType } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';
import { smallestProgram } from '../smallest-program.ts';

const ofThisMachine: SandboxFactory = {
  async createSandbox({ kind, id, resume }) {
    if (resume) throw new SandboxGoneError({ kind, id, reason: 'each has a new directory' });
    return localEnv();
  },
};

sandboxContract(
  { describe, test, beforeAll, afterAll },
  { name: 'a driver', factory: () => ofThisMachine, traits: { background: false } },
);

smallestProgram('a driver', () => ofThisMachine);

/** A sandbox of a driver whose operations all fail, but for those that are given. */
function sandboxOf(operations: Partial<SandboxDriver>, dispose?: () => void | Promise<void>) {
  const none = () => Promise.reject(new Error('not to be called'));
  const driver: SandboxDriver = {
    exec: none,
    readFile: none,
    readFileBuffer: none,
    writeFile: none,
    stat: none,
    readdir: none,
    exists: none,
    mkdir: none,
    rm: none,
    ...operations,
  };
  return sandboxFromDriver(driver, { cwd: '/home/me', ...(dispose && { dispose }) });
}

const done = { stdout: '', stderr: '', exitCode: 0 };

describe('a driver', () => {
  // contract: 10.1-driver-checked
  test('without an operation, or with options that are not known, is refused with all that is wrong', () => {
    const { exec: _, ...rest } = localDriver();
    const make = () => sandboxFromDriver({ ...rest, glob: 1 } as never, { cwd: 'here', dispose: 1, extra: 1 } as never);
    expect(make).toThrow(
      expect.objectContaining({
        name: 'DefinitionError',
        issues: ['exec', 'glob', 'options.extra', 'options.cwd', 'options.dispose'].map((path) => ({
          path,
          message: expect.any(String),
        })),
      }),
    );
  });

  // contract: 10.1-paths, 10.1-exec-env
  test('gets absolute paths that are folded, the variables of the harness, and no timeout that is too long', async () => {
    const exec = vi.fn<SandboxDriver['exec']>(async () => done);
    const readFile = vi.fn<SandboxDriver['readFile']>(async () => '');
    const root = sandboxOf({ exec, readFile });
    const child = await root.open({ cwd: 'a//b/../c', env: { A: '1', B: '1' } });
    await child.readFile('./x/../y');
    await child.exec('true', { cwd: '..', env: { B: '2' }, timeoutMs: 5 });
    await root.exec('true', { timeoutMs: 2 ** 31 });
    expect(readFile).toHaveBeenCalledWith('/home/me/a/c/y');
    expect(exec.mock.calls[0]?.[1]).toMatchObject({ cwd: '/home/me/a', env: { A: '1', B: '2' }, timeoutMs: 5 });
    expect(exec.mock.calls[1]?.[1]).toMatchObject({ cwd: '/home/me', env: {} });
    expect(exec.mock.calls[1]?.[1]).not.toHaveProperty('timeoutMs');
  });

  test('may be an object with a state of its own', async () => {
    class Counting {
      calls = 0;
      async exec() {
        this.calls++;
        return { ...done, stdout: String(this.calls) };
      }
      async glob() {
        return { paths: [String(this.calls)], truncated: false };
      }
    }
    const counting = new Counting();
    const env = sandboxFromDriver(Object.assign(counting, { ...localDriver(), exec: counting.exec }), { cwd: '/' });
    expect((await env.exec('true')).stdout).toBe('1');
    expect(await env.glob?.('*')).toEqual({ paths: ['1'], truncated: false });
  });

  // contract: 10.1-exec, 10.1-exec-max-output
  test('need say no more of a command than its outputs and code: the rest is filled in', async () => {
    const env = sandboxOf({ exec: async () => ({ stdout: 'grün', stderr: 'e', exitCode: 3 }) });
    const shown: string[] = [];
    const result = await env.exec('x', {
      maxOutput: 2,
      onStdout: (chunk) => shown.push(Buffer.from(chunk).toString()),
    });
    expect(result).toEqual({
      stdout: 'n',
      stderr: 'e',
      exitCode: 3,
      signal: null,
      stdoutBytes: 5,
      stderrBytes: 1,
      truncated: true,
      timedOut: false,
      oomKilled: false,
      durationMs: expect.any(Number),
    });
    expect(shown).toEqual(['grün']); // at the end, since the driver did not show it before
  });

  // contract: 10.1-timeout
  test('that says that a command took too long gives the code 124', async () => {
    const env = sandboxOf({ exec: async () => ({ ...done, exitCode: 137, signal: 'SIGKILL', timedOut: true }) });
    expect(await env.exec('x', { timeoutMs: 1 })).toMatchObject({ exitCode: 124, signal: null, timedOut: true });
  });

  // contract: 10.1-write-again
  test('that can not write makes the parents and tries again; then its first error is told', async () => {
    const calls: string[] = [];
    const missing = Object.assign(new Error('no such directory'), { code: 'ENOENT' });
    const env = sandboxOf({
      writeFile: async (path) => {
        calls.push(`write ${path}`);
        if (calls.length < 3) throw missing;
      },
      mkdir: async (path, options) => {
        calls.push(`mkdir ${path}`);
        expect(options).toEqual({ recursive: true });
        if (path === '/full') throw new Error('no space');
      },
    });
    await env.writeFile('a/b', 'x');
    expect(calls).toEqual(['write /home/me/a/b', 'mkdir /home/me/a', 'write /home/me/a/b']);
    calls.length = 0;
    await expect(env.writeFile('/full/b', 'x')).rejects.toMatchObject({ name: 'FileError', code: 'ENOENT' });
  });

  // contract: 10.1-driver-errors, 10.1-unsupported, 10.1-exists
  test.each([
    [
      'an error with a POSIX name',
      Object.assign(new Error('x'), { code: 'EACCES' }),
      { name: 'FileError', code: 'EACCES' },
    ],
    ['an error of another kind', new TypeError('broken'), { name: 'TypeError', message: 'broken' }],
    [
      'one of a sandbox that died',
      new SandboxDiedError({ sandboxId: 's', reason: 'oom' }),
      { name: 'SandboxDiedError' },
    ],
    [
      'one for what it can not do',
      new SandboxOperationUnsupportedError({ operation: 'writeFile', options: ['bytes'] }),
      { code: 'sandbox_operation_unsupported', message: 'This sandbox does not support writeFile with bytes.' },
    ],
  ])('that throws %s: it is told as it is', async (_what, error, told) => {
    const fails = () => {
      throw error;
    };
    const mkdir = vi.fn<SandboxDriver['mkdir']>(async () => {});
    const env = sandboxOf({
      exec: fails,
      readFile: fails,
      writeFile: fails,
      exists: fails,
      mkdir,
      async *createReadStream() {
        yield new Uint8Array(1);
        fails();
      },
    });
    await expect(env.exec('x')).rejects.toMatchObject(told);
    await expect(env.readFile('f')).rejects.toMatchObject(told);
    await expect(env.writeFile('f', 'x')).rejects.toMatchObject(told);
    const read = async () => {
      for await (const _ of env.createReadStream?.('f') ?? []);
    };
    await expect(read()).rejects.toMatchObject(told);
    expect(await env.exists('f')).toBe(false);
    // What can't be done must change nothing.
    if (error instanceof SandboxOperationUnsupportedError) expect(mkdir).not.toHaveBeenCalled();
  });

  // contract: 10.1-abort-unconfirmed
  test('that does not confirm an abort is not waited for, and what comes later is dropped', async () => {
    const later = gate<typeof done>();
    const late: string[] = [];
    let onStdout: ((chunk: Uint8Array) => void) | undefined;
    const env = sandboxOf({
      exec: (_command, options) => {
        onStdout = options?.onStdout;
        return later.promise;
      },
    });
    const stop = new AbortController();
    const call = env.exec('x', { signal: stop.signal, onStdout: (chunk) => late.push(String(chunk)) });
    stop.abort('enough');
    await expect(call).rejects.toMatchObject({
      name: 'AbortError',
      message: expect.stringContaining('may still run'),
      cause: 'enough',
    });
    later.open(done);
    onStdout?.(new Uint8Array(1));
    expect(late).toEqual([]);
  });

  // contract: 10.1-abort
  test('that ignores an abort and gives a result gave it in vain', async () => {
    const env = sandboxOf({
      exec: (_command, options) =>
        new Promise((resolve) => options?.signal?.addEventListener('abort', () => resolve(done))),
    });
    const stop = new AbortController();
    const call = env.exec('x', { signal: stop.signal });
    stop.abort('enough');
    await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  });

  // contract: 10.1-dispose
  test('is disposed of once, when the commands that were under way have ended; then no more is started', async () => {
    const order: string[] = [];
    const env = sandboxOf(
      {
        exec: (_command, options) =>
          new Promise((_, reject) => {
            options?.signal?.addEventListener('abort', () => {
              order.push('aborted');
              reject(new Error('killed'));
            });
          }),
      },
      async () => {
        order.push('disposed');
      },
    );
    const call = env.exec('x');
    const ended = expect(call).rejects.toMatchObject({ name: 'AbortError' });
    await Promise.all([env.close(), env.close()]);
    await ended;
    expect(order).toEqual(['aborted', 'disposed']);
    await expect(env.exec('x')).rejects.toMatchObject({ name: 'HarnessClosedError' });
  });
});

test('a model works in a sandbox of a driver with all built-in tools', async () => {
  const model = scriptedModel([
    {
      toolCalls: [
        { name: 'write', input: { path: 'src/sum.mjs', content: 'export const sum = (a, b) => a - b;\n' } },
        { name: 'edit', input: { path: 'src/sum.mjs', oldText: 'a - b', newText: 'a + b' } },
        { name: 'read', input: { path: 'src/sum.mjs' } },
        { name: 'grep', input: { pattern: 'a \\+ b' } },
        { name: 'glob', input: { pattern: '*.mjs' } },
        {
          name: 'bash',
          input: { command: `node -e "import('./src/sum.mjs').then(({ sum }) => console.log(sum(2, 2)))"` },
        },
      ],
    },
    'Done.',
  ]);
  const agent = defineAgent(() => ({ model, sandbox: ofThisMachine }));
  await using runtime = await createRuntime({ store: ':memory:', logger: pino({ level: 'silent' }) });
  const workflow = defineWorkflow({
    name: 'works',
    agent,
    run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
  });
  const run = await runtime.invoke(workflow);
  expect(await run.result()).toBe('Done.');
  const texts = ofType(await eventsOf(run), 'tool').map(({ toolName, isError, result }) => {
    const [part] = (result as { content: { text: string }[] }).content; // the tools here give texts
    return [toolName, isError, part?.text];
  });
  expect(Object.fromEntries(texts.map(([name, ...rest]) => [name, rest]))).toEqual({
    write: [false, 'Wrote src/sum.mjs (36 bytes).'],
    edit: [false, 'Edited src/sum.mjs in 1 place.'],
    read: [false, 'export const sum = (a, b) => a + b;\n'],
    grep: [false, 'src/sum.mjs:1:export const sum = (a, b) => a + b;'],
    glob: [false, 'src/sum.mjs'],
    bash: [false, '4'],
  });
});

// contract: 10.1-dispose
test('a sandbox of a driver ends with its run, also when the run is cancelled', async () => {
  const directory = await localEnv();
  const disposed = vi.fn(() => rm(directory.cwd, { recursive: true, force: true }));
  const sandbox = {
    createSandbox: async () => sandboxFromDriver(localDriver(), { cwd: directory.cwd, dispose: disposed }),
  };
  await using runtime = await createRuntime({ store: ':memory:', sandbox, logger: pino({ level: 'silent' }) });
  const workflow = defineWorkflow({
    name: 'waits',
    agent: defineAgent(() => ({})),
    run: async ({ harness }) => void (await harness.shell('echo up; exec sleep 1601')),
  });
  const run = await runtime.invoke(workflow);
  for await (const event of run.events()) if (event.type === 'tool_output') void run.cancel();
  await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError' });
  expect(disposed).toHaveBeenCalledTimes(1);
});
