import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { SandboxGoneError } from '../../../src/runtime/errors.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { docker } from '../../../src/runtime/sandbox/docker.ts';
import type { SandboxEnv, SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import { SandboxHost } from '../../../src/sandbox/host.ts';
import { sandboxContract } from '../../../src/testing/sandbox-contract.ts';
import { eventsOf, ofType } from '../../support/runtime.ts';
import { openHost } from '../../support/sandbox-fixture.ts';
import { sandboxRequest } from '../../support/sandbox-request.ts';
import { smallestProgram } from '../smallest-program.ts';

let opened: Awaited<ReturnType<typeof openHost>>;

beforeAll(async () => {
  opened = await openHost();
});

afterAll(() => opened[Symbol.asyncDispose]());

/** `docker()` with the host of this file, whatever the runtime has. */
function dockerHere(options?: Parameters<typeof docker>[0]): SandboxFactory {
  const factory = docker(options);
  return {
    ...factory,
    createSandbox: (request) => factory.createSandbox({ ...request, host: async () => opened.host }),
  };
}

sandboxContract({ describe, test, beforeAll, afterAll }, { name: 'docker()', factory: () => dockerHere() });

smallestProgram('docker()', dockerHere);

/** The id of the session on the wire that a harness is. */
function sessionOf({ sandbox }: Harness): string {
  return (sandbox as unknown as { session: { id: string } }).session.id; // that of `docker()`
}

const workflow = (sandbox: SandboxFactory) =>
  defineWorkflow({
    name: 'leave-something',
    agent: defineAgent(() => ({ sandbox })),
    run: async ({ harness }) => {
      await harness.fs.writeFile('left.txt', 'here');
      await harness.shell('sleep 1000 &');
      return null;
    },
  });

test('a command with a key is started once: later calls join it', async () => {
  const env = await dockerHere().createSandbox(sandboxRequest());
  try {
    const command = 'echo started >> starts.txt; cat starts.txt';
    const results = [await env.exec(command, { key: 'a' }), await env.exec(command, { key: 'a' })];
    expect(results.map(({ stdout }) => stdout)).toEqual(['started\n', 'started\n']);
    expect((await env.exec(command, { key: 'b' })).stdout).toBe('started\nstarted\n');
  } finally {
    await env.close();
  }
});

test('what its programs reach is told in the events of the run, and a secret of its network stands in none of them', async () => {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.end('reached');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const place = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const secret = { name: 'TOKEN', value: 'known-outside-only', hosts: [place] };
  const ask = defineWorkflow({
    name: 'ask',
    agent: defineAgent(() => ({ sandbox: dockerHere({ network: { allow: [place], secrets: [secret] } }) })),
    run: async ({ harness, log }) => {
      log.info(`with ${secret.value}`);
      const command = `curl -sS --noproxy '' -H "Authorization: Bearer $TOKEN" http://${place}/`;
      return (await harness.shell(command)).stdout;
    },
  });
  await using runtime = await createRuntime({ store: ':memory:' });
  const run = await runtime.invoke(ask);
  expect(await run.result()).toBe('reached');
  expect(seen).toEqual(['Bearer known-outside-only']);
  const events = await eventsOf(run);
  const told = ofType(events, 'sandbox').filter(({ kind }) => kind === 'network');
  expect(told).toMatchObject([{ host: '127.0.0.1', allowed: true, method: 'GET', path: '/', secrets: ['TOKEN'] }]);
  expect(JSON.stringify(events)).toContain('with <masked>');
  expect(JSON.stringify(events)).not.toContain(secret.value);
});

// contract: 10.2-docker-run, 10.2-docker-keep, 11-nothing-left
test('removes the sandbox of a run with the run, unless it is to be kept; then only its processes end', async () => {
  await using runtime = await createRuntime({ store: ':memory:' });
  await (await runtime.invoke(workflow(dockerHere()))).result();
  expect(await opened.host.list()).toEqual([]);

  await using other = await createRuntime({ store: ':memory:' });
  await (await other.invoke(workflow(dockerHere({ keep: true, labels: { name: 'kept' } })))).result();
  const [kept] = await opened.host.list({ labels: { name: 'kept' } });
  await using sandbox = await opened.host.connect(kept?.id ?? '');
  expect(await sandbox.fs.readFile('left.txt')).toBe('here');
  expect(await sandbox.processes()).toEqual([]);
});

// contract: 10.2-docker-keep-on-failure, 8-sandbox
test.each([
  ['completed', async () => null, false],
  ['failed', () => Promise.reject(new Error('broken')), true],
  ['cancelled', (signal: AbortSignal) => new Promise((_, fail) => signal.addEventListener('abort', fail)), false],
] as const)('keeps that of a run which failed, where it is asked for that: %s', async (state, work, isKept) => {
  const failing = defineWorkflow({
    name: 'keeps',
    agent: defineAgent(() => ({ sandbox: dockerHere({ keep: 'on-failure' }) })),
    run: async ({ harness, signal }) => {
      await harness.fs.writeFile('left.txt', 'here');
      harness.emit('written', null);
      await work(signal);
    },
  });
  await using runtime = await createRuntime({ store: ':memory:' });
  const run = await runtime.invoke(failing);
  runtime.observe(({ type }) => {
    if (type === 'data' && state === 'cancelled') void run.cancel();
  });
  await run.result().catch(() => {});
  expect((await run.record()).state).toBe(state);
  const [created, ended] = ofType(await eventsOf(run), 'sandbox');
  expect([created?.kind, ended?.kind]).toEqual(['created', isKept ? 'kept' : 'removed']);
  expect(ended?.sandboxId).toBe(created?.sandboxId);
  const found = await opened.host.list({ labels: { 'berth.run': run.id } });
  expect(found.map(({ id }) => id)).toEqual(isKept ? [created?.sandboxId] : []);
  expect((await opened.host.collect()).removed).toEqual([]);
  for (const { id } of found) {
    await using sandbox = await opened.host.connect(id);
    expect(await sandbox.fs.readFile('left.txt')).toBe('here');
  }
});

describe('work that is interrupted', () => {
  const looped = 'echo x >> runs; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended';

  // contract: 10.1-resume, 10.2-docker-run
  test.each([
    ['run', true],
    ['run', false],
    ['agent', true],
  ] as const)(
    'goes on with its files in the same sandbox, which runs only when it is needed: %s, durable: %s',
    async (kind, isDurable) => {
      const events: string[] = [];
      const onEvent = ({ kind }: { kind: string }) => void events.push(kind);
      const request = sandboxRequest({ kind, isDurable, onEvent, ...(kind === 'agent' && { agent: 'helper' }) });
      const before = await dockerHere().createSandbox(request);
      await before.writeFile('note', 'kept');
      const child = await before.open({ name: 'child' });
      await child.close('suspended');
      await before.close('suspended');
      const [info] = await opened.host.list();
      expect(info?.end).toMatchObject({ reason: 'stopped' });
      expect((await opened.host.collect()).removed).toEqual([]);

      await using later = await SandboxHost.open({ stateDir: opened.stateDir });
      const after = await docker().createSandbox({ ...request, resume: true, host: async () => later });
      expect(await after.readFile('note')).toBe('kept');
      await after.close('completed');
      expect(events).toEqual(['created', 'found', 'removed']);
      expect(await opened.host.list()).toEqual([]);
    },
  );

  test('has its commands running on, and joins them by their keys, of child harnesses too', async () => {
    const request = sandboxRequest({ isDurable: true });
    const before = await dockerHere().createSandbox(request);
    const child = await before.open({ name: 'child', cwd: '/tmp', env: { OF: 'child' } });
    const other = await before.open({ name: 'other' });
    const lost = [before, child, other].map((env) => begun(env, looped));
    await Promise.all(lost.map(({ told }) => told));
    for (const each of [child, other, before]) await each.close('suspended');
    for (const { ended } of lost) await expect(ended).rejects.toMatchObject({ name: 'WireClosedError' });
    expect(await opened.host.list()).toMatchObject([{ state: 'running' }]);

    const after = await dockerHere().createSandbox({ ...request, resume: true });
    const childAfter = await after.open({ name: 'child', cwd: '/tmp', env: { OF: 'child' } });
    const joined = [after.exec(looped, { key: 'a' }), childAfter.exec(looped, { key: 'a' })];
    await after.exec('touch go /tmp/go');
    const ended = { exitCode: 0, stdout: 'begun\nended\n' };
    expect(await Promise.all(joined)).toMatchObject([ended, ended]);
    expect((await after.exec('cat runs /tmp/runs')).stdout).toBe('x\nx\nx\n'); // root and `other`, child
    await after.close('completed');
  });

  // contract: 10.1-resume
  test('says that its sandbox is gone when it is, and makes none in its place', async () => {
    const request = sandboxRequest({ isDurable: true });
    const resumed = { ...request, resume: true };
    await expect(dockerHere().createSandbox(resumed)).rejects.toBeInstanceOf(SandboxGoneError);
    const before = await dockerHere().createSandbox(request);
    const [info] = await opened.host.list();
    await opened.host.remove(info?.id ?? '');
    await before.close('suspended');
    await expect(dockerHere().createSandbox(resumed)).rejects.toMatchObject({
      code: 'sandbox_gone',
      meta: { kind: 'run', id: request.id },
    });
    expect(await opened.host.list()).toEqual([]);
  });
});

/** Starts a command with the key `a`; `told` resolves when it has shown something. */
function begun(env: SandboxEnv, command: string) {
  let onStdout = () => {};
  const told = new Promise<void>((resolve) => {
    onStdout = resolve;
  });
  const ended = env.exec(command, { key: 'a', onStdout });
  ended.catch(() => {}); // looked at later
  return { told, ended };
}

// contract: 1.6-sandbox-default, 2-child-environment, 2-child-processes
test('is the sandbox where none is named; each action has a session of its own in it', async () => {
  const inside = defineAction({
    name: 'inside',
    description: 'Looks around.',
    run: async ({ harness }) => {
      await harness.shell('sleep 1001 >/dev/null 2>&1 &');
      return { hostname: (await harness.shell('hostname')).stdout, session: sessionOf(harness) };
    },
  });
  const workflow = defineWorkflow({
    name: 'default-sandbox',
    agent: defineAgent(() => ({})),
    run: async ({ harness }) => {
      const seen = await harness.run(inside);
      const { stdout } = await harness.shell('hostname; ps -eo args | grep -c "[s]leep 1001"');
      return { stdout, seen, session: sessionOf(harness), sandboxes: (await opened.host.list()).length };
    },
  });
  await using runtime = await createRuntime({ host: opened.host, store: ':memory:' });
  const { stdout, seen, session, sandboxes } = await (await runtime.invoke(workflow)).result();
  expect(stdout).toBe(`${seen.hostname}0\n`);
  expect(seen.session).not.toBe(session);
  expect(sandboxes).toBe(1);
});

// contract: 10.1-died
test('a sandbox that dies rejects what is under way in it, and its run fails with that', async () => {
  const workflow = defineWorkflow({
    name: 'dies',
    agent: defineAgent(() => ({})),
    run: async ({ harness }) => void (await harness.shell('echo up; sleep 1002')),
  });
  await using runtime = await createRuntime({ host: opened.host, store: ':memory:' });
  runtime.observe(async ({ type }) => {
    if (type === 'tool_output') for (const { id } of await opened.host.list()) await opened.host.remove(id);
  });
  const run = await runtime.invoke(workflow);
  await expect(run.result()).rejects.toMatchObject({ name: 'SandboxDiedError' });
  expect(await run.record()).toMatchObject({ state: 'failed', error: { code: 'sandbox_died' } });
});

// contract: 2-end-detached
test('a detached process outlives the child harness that started it, another one does not', async () => {
  const serve = defineAction({
    name: 'serve',
    description: 'Starts a server.',
    run: async ({ harness }) => {
      const { session } = harness.sandbox;
      await session?.spawn('exec sleep 1007', { detached: true });
      await session?.spawn('exec sleep 1008');
    },
  });
  const agent = defineAgent(() => ({ sandbox: dockerHere() }));
  const after = defineWorkflow({
    name: 'after-a-server',
    agent,
    run: async ({ harness }) => {
      await harness.run(serve);
      return (await harness.shell('cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -o "^100[78]" | sort')).stdout;
    },
  });
  await using runtime = await createRuntime({ store: ':memory:' });
  expect(await (await runtime.invoke(after)).result()).toBe('1007\n');
});

describe('forks of a sandbox', () => {
  const left = async (id: string) => (await opened.host.list({ labels: { 'berth.run': id } })).length;

  // contract: 11.1-root, 11.1-fork
  test('keep what a run does from a workspace of this machine, until its output is good', async () => {
    const workspace = await mkdtemp(join(tmpdir(), 'berth-test-workspace-'));
    onTestFinished(() => rm(workspace, { recursive: true, force: true }));
    await writeFile(join(workspace, 'kept'), 'before');
    const change = (fails: boolean) =>
      defineWorkflow({
        name: 'change',
        agent: defineAgent(() => ({ sandbox: dockerHere({ workspace: { bind: workspace } }) })),
        files: 'transaction',
        run: async ({ harness }) => {
          const { stdout } = await harness.shell('pwd; echo changed > kept; mkdir made; echo 1 > made/file');
          if (fails) throw new Error('boom');
          return stdout;
        },
      });
    await using runtime = await createRuntime({ store: ':memory:' });
    const failed = await runtime.invoke(change(true));
    await expect(failed.result()).rejects.toThrow('boom');
    expect(await readdir(workspace)).toEqual(['kept']);
    expect(await readFile(join(workspace, 'kept'), 'utf8')).toBe('before');
    await using other = await createRuntime({ store: ':memory:' });
    const run = await other.invoke(change(false));
    expect(await run.result()).toBe('/workspace\n');
    expect(await readFile(join(workspace, 'kept'), 'utf8')).toBe('changed\n');
    expect(await readFile(join(workspace, 'made/file'), 'utf8')).toBe('1\n');
    expect([await left(failed.id), await left(run.id)]).toEqual([0, 0]);
  });

  // contract: 11.2-forks, 11-nothing-left
  test('are containers of their own, without the processes, and go with the attempts', async () => {
    const workflow = defineWorkflow({
      name: 'attempts',
      agent: defineAgent(() => ({ sandbox: dockerHere() })),
      run: async ({ harness: root }) => {
        await root.shell('echo base > file; sleep 1000 &');
        const value = await root.attempt(
          async ({ harness, attempt }) => {
            const { stdout } = await harness.shell(
              `cat file; echo ${attempt} > file; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 100[0]'`,
            );
            if (attempt === 1) throw new Error('not this one');
            return stdout;
          },
          { count: 2 },
        );
        const checkpoint = await root.checkpoint();
        await root.shell('rm file; touch other');
        await checkpoint.rollback();
        return [value, await root.fs.readFile('file'), (await root.fs.readdir('.')).length];
      },
    });
    await using runtime = await createRuntime({ store: ':memory:' });
    const run = await runtime.invoke(workflow);
    expect(await run.result()).toEqual(['base\n0\n', '2\n', 1]);
    const kinds = ofType(await eventsOf(run), 'sandbox').map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'created')).toHaveLength(3);
    expect(kinds.filter((kind) => kind === 'removed')).toHaveLength(3);
    expect(await left(run.id)).toBe(0);
  });

  // contract: 11.4-left
  test('are removed with the sandbox of interrupted work that does not go on in them', async () => {
    const factory = dockerHere();
    const request = sandboxRequest({ kind: 'run', isDurable: true });
    const signal = request.signal;
    const first = await factory.createSandbox(request);
    const [fork] = await (first.fork?.({ names: ['a'], resume: false, signal }) ?? []);
    const [inner] = await (fork?.fork?.({ names: ['b'], resume: false, signal }) ?? []);
    await inner?.writeFile('of-inner', 'here');
    for (const env of [inner, fork, first]) await env?.close('left');
    expect(await left(request.id)).toBe(3);
    const second = await factory.createSandbox({ ...request, resume: true });
    const [found] = await (second.fork?.({ names: ['a'], resume: true, signal }) ?? []);
    const [foundInner] = await (found?.fork?.({ names: ['b'], resume: true, signal }) ?? []);
    await foundInner?.land({ signal });
    expect(await found?.readFile('of-inner')).toBe('here');
    for (const env of [foundInner, found]) await env?.close('left');
    await second.close('cancelled');
    expect(await left(request.id)).toBe(0);
  });
});
