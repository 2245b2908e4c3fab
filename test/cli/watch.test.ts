import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { type Cli, test } from './command.ts';

/** A project with a workflow that says `greeting`, which it imports. */
async function makeProject(berth: Cli, run: string) {
  const folder = join(berth.stateDir, 'project');
  await mkdir(folder);
  const write = async (name: string, text: string) => {
    // As editors do it: a new file takes the place of the old one.
    await writeFile(join(folder, `${name}.new`), text);
    await rename(join(folder, `${name}.new`), join(folder, name));
  };
  const flow = join(folder, 'flow.mts');
  await write('greeting.mts', "export const greeting = 'one';");
  await write(
    'flow.mts',
    `import { defineAgent, defineWorkflow, local } from 'berth';
import { greeting } from './greeting.mts';
export default defineWorkflow({ name: 'flow', agent: defineAgent(() => ({ sandbox: local() })), run: ${run} });`,
  );
  return { flow, write };
}

/** Starts the command; `event` and `complaint` wait for the next line of JSON of a type, and of standard error. */
function startWatching(berth: Cli, flow: string) {
  const command = berth.run(['run', flow, '--watch', '--json'], { BERTH_LOG: 'error' });
  const lines = createInterface({ input: command.stdout })[Symbol.asyncIterator]();
  const complaints = createInterface({ input: command.stderr })[Symbol.asyncIterator]();
  const event = async (type: string): Promise<Record<string, unknown>> => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`It ended before ${type}: ${(await command).stderr}`);
      const line: Record<string, unknown> = JSON.parse(value);
      if (line.type === type) return line;
    }
  };
  return { command, event, complaint: async (): Promise<string> => (await complaints.next()).value };
}

test('--watch runs again when an imported file changes, waits while one is broken, and ends with 130', async ({
  berth,
}) => {
  const { flow, write } = await makeProject(berth, '() => greeting');
  const { command, event, complaint } = startWatching(berth, flow);
  expect(await event('run')).toMatchObject({ record: { result: 'one' } });

  await write('greeting.mts', "export const greeting = 'two';");
  expect(await event('run')).toMatchObject({ record: { result: 'two' } });

  await write('greeting.mts', 'export const greeting = ;');
  expect(await complaint()).toMatch(/^berth: .*flow\.mts can't be loaded: .*greeting\.m?ts:1/);
  await write('greeting.mts', "export { greeting } from './new.mts';");
  expect(await complaint()).toMatch(/can't be loaded: .*new\.m?ts/);
  await write('new.mts', "export const greeting = 'three';");
  expect(await event('run')).toMatchObject({ record: { result: 'three' } });

  command.kill('SIGINT');
  const { exitCode, stderr } = await command;
  expect(stderr.split('\n')).toHaveLength(2);
  expect(exitCode).toBe(130);
});

test('--watch cancels the run that has not ended when a file changes, and the last one on Ctrl-C', async ({
  berth,
}) => {
  const { flow, write } = await makeProject(
    berth,
    `async ({ harness, log }) => {
  const { exitCode } = await harness.shell(greeting === 'one' ? 'echo on; sleep 1000' : 'echo on; sleep 2000');
  return exitCode;
}`,
  );
  const { command, event } = startWatching(berth, flow);
  await event('tool_output');
  await write('greeting.mts', "export const greeting = 'two';");
  expect(await event('run')).toMatchObject({ record: { state: 'cancelled' } });
  await event('tool_output');
  command.kill('SIGTERM');
  expect(await event('run')).toMatchObject({ record: { state: 'cancelled' } });
  expect(await command).toMatchObject({ exitCode: 143, stderr: '' });
});

test('a run ends when the command that watches is killed', async ({ berth }) => {
  const { flow } = await makeProject(
    berth,
    "async ({ harness }) => (await harness.shell('echo on; sleep 1000')).exitCode",
  );
  const { command, event } = startWatching(berth, flow);
  await event('tool_output');
  command.kill('SIGKILL');
  expect(await event('run')).toMatchObject({ record: { state: 'cancelled' } });
  await command;
});

test('--watch says at once what a watched file can not mend', async ({ berth }) => {
  const unknown = await berth.run(['run', 'no/such/file.ts', '--watch']);
  expect(unknown).toMatchObject({ exitCode: 2, stdout: '' });
  expect(unknown.stderr).toMatch(/There is no file/);
  const input = await berth.run(['run', 'test/cli/fixtures/fails.js', '--watch', '--input', '{']);
  expect(input).toMatchObject({ exitCode: 2, stdout: '' });
});
