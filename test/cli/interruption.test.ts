import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { type Cli, test } from './command.ts';

/** Starts a run whose command never ends, and waits until that has begun. */
async function startRun(berth: Cli) {
  const run = berth.run(['run', 'test/cli/fixtures/works-for-ever.js', '--json']);
  const lines = createInterface({ input: run.stdout });
  for await (const line of lines) {
    const event: { type?: string } = JSON.parse(line);
    if (event.type === 'tool_output') break;
  }
  return { run }; // a promise of its own kind: bare, it would be awaited
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${signal} ends the run with ${code} and removes what it made`, async ({ berth }) => {
    const { run } = await startRun(berth);
    expect(await berth.containers()).toHaveLength(1);
    run.kill(signal);
    const { exitCode, stderr } = await run;
    expect(exitCode).toBe(code);
    expect(stderr).toBe('');
    expect(await berth.containers()).toEqual([]);
  });
}

test('a second Ctrl-C during the clean-up leaves nothing behind either', async ({ berth }) => {
  const { run } = await startRun(berth);
  run.kill('SIGINT');
  run.kill('SIGINT'); // as one that the terminal sends to a whole group and npm passes on once more
  const timer = setInterval(() => run.kill('SIGINT'), 20);
  const { exitCode } = await run;
  clearInterval(timer);
  expect(exitCode).toBe(130);
  expect(await berth.containers()).toEqual([]);
});

test('a reader that goes away ends the run', async ({ berth }) => {
  const { run } = await startRun(berth);
  run.stdout.destroy();
  run.kill('SIGINT');
  const { exitCode } = await run;
  expect([130, 141]).toContain(exitCode);
  expect(await berth.containers()).toEqual([]);
});
