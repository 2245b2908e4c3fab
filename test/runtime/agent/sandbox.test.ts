import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { type AgentDefinition, defineAgent } from '../../../src/runtime/define/agent.ts';
import type { EventOf, RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import type { RuntimeOptions } from '../../../src/runtime/run/runtime-options.ts';
import { docker } from '../../../src/runtime/sandbox/docker.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { virtual } from '../../../src/runtime/sandbox/virtual.ts';
import { type ScriptedTurn, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { ofType, test } from '../../support/runtime.ts';
import { type OpenedHost, openHost } from '../../support/sandbox-fixture.ts';

const logger = pino({ level: 'silent' });

const call = (command: string) => ({ name: 'bash', input: { command } });
const bash = (command: string): ScriptedTurn => ({ toolCalls: [call(command)] });

/** An agent whose model says these things, and what its tools gave, to one message. */
function scripted(
  turns: readonly ScriptedTurn[],
  { name = 'helper', ...options }: { name?: string; sandbox?: RuntimeOptions['sandbox'] } = {},
) {
  const model = scriptedModel([...turns, 'Done.']);
  const agent = defineAgent(() => ({ model, ...options }), { name });
  return { model, agent };
}

/** A runtime opened over a store, asked for one message, and closed: what happened. */
async function once(options: RuntimeOptions, agent: AgentDefinition, instance = 'a'): Promise<RuntimeEvent[]> {
  const events: RuntimeEvent[] = [];
  await using runtime = await createRuntime({ logger, ...options });
  runtime.observe((event) => events.push(event));
  await (await runtime.dispatch(agent, { instance, message: 'Go.' })).result();
  return events;
}

const outputs = (events: RuntimeEvent[]) => ofType(events, 'tool').map(({ result }) => JSON.stringify(result));
const ofSandboxes = (events: RuntimeEvent[]) =>
  ofType(events, 'sandbox').map(({ kind, sandboxId }: EventOf<'sandbox'>) => [kind, sandboxId]);

describe('the sandbox of an instance', () => {
  let opened: OpenedHost;
  beforeAll(async () => {
    opened = await openHost();
  });
  afterEach(async () => {
    for (const { id } of await opened.host.list()) await opened.host.remove(id);
  });
  afterAll(() => opened[Symbol.asyncDispose]());

  // contract: 7.2-restart, 7.2-sandbox-kept, 10.2-docker-instance, 8-sandbox
  test('is there again in a later process, with its files, and so is the conversation', async ({ directory }) => {
    const options = { store: join(directory, 'runtime.db'), host: opened.host };
    const first = await once(options, scripted([bash('echo kept > note; sleep 1000 & echo started')]).agent);
    const { agent, model } = scripted([bash('cat note; pgrep -f "[s]leep 1000" || echo ended')]);
    const second = await once(options, agent);
    expect(outputs(second)[0]).toContain('kept\\nended');
    expect(model.requests[0]?.messages.map(({ role }) => role)).toEqual([
      'user',
      'assistant',
      'tool',
      'assistant',
      'user',
    ]);
    const [[, id] = []] = ofSandboxes(first);
    expect(ofSandboxes(first)).toEqual([['created', id]]);
    expect(ofSandboxes(second)).toEqual([['found', id]]);

    const [info] = await opened.host.list();
    expect(info?.labels).toEqual({ 'berth.instance': 'helper/a', 'berth.keep': 'true' });
    expect((await opened.host.collect()).removed).toEqual([]);
    await opened.host.remove(id ?? '');
    const third = await once(options, scripted([bash('cat note')]).agent);
    expect(outputs(third)[0]).toContain('No such file');
    expect(ofSandboxes(third)[0]?.[0]).toBe('created');
  });

  // contract: 7.2-sandbox-kept
  test('that stopped meanwhile is started for the next message', async ({ directory }) => {
    await using runtime = await createRuntime({ store: join(directory, 'runtime.db'), host: opened.host, logger });
    const { agent } = scripted([bash('echo kept > note'), 'Noted.', bash('cat note'), 'Read.', bash('cat note')]);
    const events: RuntimeEvent[] = [];
    runtime.observe((event) => events.push(event));
    await (await runtime.dispatch(agent, { instance: 'a', message: '1' })).result();
    const [info] = await opened.host.list();
    const sandbox = await opened.host.connect(info?.id ?? '');
    await sandbox.stop();
    await (await runtime.dispatch(agent, { instance: 'a', message: '2' })).result();
    expect(outputs(events).at(-1)).toContain('kept');
    // Behind our back, and started by somebody else again: the session of before is not in it.
    await sandbox.stop();
    await sandbox.start();
    await (await runtime.dispatch(agent, { instance: 'a', message: '3' })).result();
    expect(outputs(events).at(-1)).toContain('kept');
    expect(ofSandboxes(events).map(([kind]) => kind)).toEqual(['created', 'found', 'found']);
  });

  // contract: 7.2-sandbox-kept
  test('stays awake while a message is worked on, however long the model thinks', async ({ directory }) => {
    const sandbox = docker({ idleTimeout: 1_000 });
    const options = { store: join(directory, 'runtime.db'), host: opened.host, sandbox };
    const { agent } = scripted([bash('echo kept > /tmp/note'), { delayMs: 3_000, toolCalls: [call('cat /tmp/note')] }]);
    const events = await once(options, agent);
    expect(outputs(events)[1]).toContain('kept');
    // And stops by itself when nobody works in it.
    const [info] = await opened.host.list();
    while ((await (await opened.host.find(info?.id ?? '')).info()).state === 'running') await sleep(100);
    expect((await opened.host.list())[0]?.end).toMatchObject({ reason: 'idle' });
  });

  // contract: 7.2-sandbox-kept
  test('of a store in memory goes with the runtime', async () => {
    const events = await once({ store: ':memory:', host: opened.host }, scripted([]).agent);
    const [[, id] = []] = ofSandboxes(events);
    expect(ofSandboxes(events)).toEqual([
      ['created', id],
      ['removed', id],
    ]);
    expect(await opened.host.list()).toEqual([]);
  });

  test('that was made with other options is not used in their place: the message fails, and says what to do', async ({
    directory,
  }) => {
    const options = { store: join(directory, 'runtime.db'), host: opened.host };
    await once(options, scripted([]).agent);
    const sandbox = docker({ limits: { pids: 100 } });
    await expect(once({ ...options, sandbox }, scripted([]).agent)).rejects.toMatchObject({
      code: 'sandbox_key_conflict',
      meta: { options: ['limits.pids'] },
    });
  });
});

// contract: 7.2-apart
test('two agents whose instances have one id have sandboxes of their own', async () => {
  await using runtime = await createRuntime({ store: ':memory:', logger, sandbox: virtual() });
  const one = scripted([bash('echo secret > note')], { name: 'one' });
  const other = scripted([bash('cat note')], { name: 'other' });
  await (await runtime.dispatch(one.agent, { instance: 'a', message: '1' })).result();
  const events: RuntimeEvent[] = [];
  runtime.observe((event) => events.push(event));
  await (await runtime.dispatch(other.agent, { instance: 'a', message: '2' })).result();
  expect(outputs(events)[0]).toContain('No such file');
});

// contract: 7.2-own-conversation, 7.2-restart
test('two runtimes work on an instance in turn, and each knows what the other has said', async ({ directory }) => {
  const options = { store: join(directory, 'runtime.db'), logger, sandbox: local({ cwd: directory }) };
  await using one = await createRuntime(options);
  await using other = await createRuntime(options);
  const model = scriptedModel(['A.', 'B.', 'C.', 'D.']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  for (const [i, runtime] of [one, other, other, one].entries()) {
    const answer = await (await runtime.dispatch(agent, { instance: 'a', message: `${i}` })).result();
    expect(answer.text).toBe(`${'ABCD'.charAt(i)}.`);
    expect(model.requests.at(-1)?.messages).toHaveLength(2 * i + 1);
  }
});
