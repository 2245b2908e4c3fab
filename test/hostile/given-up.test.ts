import { join } from 'node:path';
import { setTimeout as pass } from 'node:timers/promises';
import { expect } from 'vitest';
import { socketName } from '../../src/protocol/socket.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';
import { LyingAgent } from './lying-agent.ts';

test('a process that was given up on while it started, and whose connection ends, does not end the host', async ({
  onTestFinished,
}) => {
  await using opened = await openHost('unix');
  const { id } = await opened.host.create();
  await using agent = await LyingAgent.listen(join(opened.stateDir, 'wire', id, socketName));
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let isAsked = () => {};
  const asked = new Promise<void>((resolve) => {
    isAsked = resolve;
  });
  let isBroken = false;
  const started = 3; // after hello, welcome, and the kills until then
  agent.startAnew(async (honest, at, wire) => {
    if (at === started) {
      isAsked();
      await released;
    }
    if (at <= started || isBroken) wire.say(honest); // the process goes on
    if (at !== started) return;
    await pass(50);
    isBroken = true;
    wire.break({ answer: 'unknown_connection', shift: 0, times: 0 });
  });
  const unhandled: unknown[] = [];
  const onUnhandled = (error: unknown) => unhandled.push(error);
  process.on('unhandledRejection', onUnhandled);
  onTestFinished(() => void process.off('unhandledRejection', onUnhandled));

  const sandbox = await opened.host.find(id);
  const abort = new AbortController();
  const spawning = sandbox.spawn('sleep 1000', { signal: abort.signal, onOomKill: () => {} });
  await asked;
  await sandbox.pause();
  abort.abort();
  await expect(spawning).rejects.toMatchObject({ name: 'AbortError' });
  release();
  await agent.quiet(3_000);
  expect(unhandled).toEqual([]);
});
