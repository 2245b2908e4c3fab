import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { test } from './command.ts';

const typed = 'test/cli/fixtures/typed-input.js';

describe('wrong usage is one line that says what to do, and exit code 2', () => {
  const cases: [name: string, args: string[], text: RegExp][] = [
    ['an unknown file', ['run', 'no/such/file.ts'], /There is no file .*no\/such\/file\.ts/],
    ['an unknown workflow', ['run', 'nightly'], /no workflow nightly: make it in workflows\/nightly\.ts/],
    ['no default export', ['run', 'test/cli/fixtures/no-default.js'], /has no default export\. Write: export default/],
    ['a file that is no program', ['run', 'README.md'], /README\.md is no JavaScript or TypeScript/],
    ['input that is not JSON', ['run', typed, '--input', '{file}'], /--input is not JSON/],
    ['an input file that is not there', ['run', typed, '--input-file', 'nope.json'], /can't be read: .*nope\.json/],
    ['a model of another form', ['run', typed, '--model', 'gpt'], /"gpt" is not of the form provider\/model/],
    ['an unknown provider', ['run', typed, '--model', 'nobody/m'], /nobody.*Known providers: anthropic, /],
    ['an unknown option', ['run', typed, '--fast'], /unknown option '--fast'/],
    ['an unknown command', ['sandboxes'], /unknown command 'sandboxes'/],
    ['a directory in place of a file', ['run', 'test/cli/fixtures'], /no file .*fixtures\. Give the path of a file/],
    ['no name at all', ['run', ''], /^berth: Give the path of a file/],
    ['two inputs', ['run', typed, '--input', '{}', '--input-file', 'x'], /by --input or by --input-file, not by both/],
    ['an argument too many', ['run', typed, 'more'], /too many arguments for 'run'/],
    ['a missing argument', ['sandbox', 'exec', 'id'], /missing required argument 'command'/],
    ['a number that is none', ['sandbox', 'create', '--memory', '2g'], /'--memory <bytes>' argument '2g' is invalid/],
    [
      'limits below what works',
      ['sandbox', 'create', '--memory', '1', '--pids', '1.5'],
      /^berth: --memory: .*; --pids: /,
    ],
    [
      'times that are none',
      ['sandbox', 'create', '--idle-timeout', '0', '--max-lifetime', '1.5'],
      /^berth: --idle-timeout: .*; --max-lifetime: /,
    ],
    ['a share of a CPU that is too small', ['sandbox', 'create', '--cpus', '0.0001'], /^berth: --cpus: .*0\.01/],
    [
      'an image that can not be one',
      ['sandbox', 'create', '--image', 'Bad Image!'],
      /^berth: --image: is not the name/,
    ],
    ['a label of Berth’s own', ['sandbox', 'create', '--label', 'berth.x=1'], /^berth: --label: names that begin/],
    ['an id that is none', ['sandbox', 'create', '--id', 'Bad Id'], /^berth: --id: is not 1 to 63 of/],
    ['a copy within this machine', ['sandbox', 'cp', 'a', 'b'], /One of the two must be in a sandbox, written ID:PATH/],
    ['a file that is not there', ['sandbox', 'cp', '/no/such', 'x:a', '--json'], /\/no\/such can't be read: ENOENT/],
    [
      'a limit where none applies',
      ['sandbox', 'cp', 'a', 'x:a', '--max-size', '5'],
      /--max-size is for what comes out/,
    ],
    ['a sandbox that is not there', ['sandbox', 'cp', 'none:a', '.', '--json'], /There is no sandbox none\./],
    [
      'rules that are none',
      ['sandbox', 'create', '--allow', 'a.test', '--allow', 'https://a.test/'],
      /^berth: --allow \(number 2\): .*leave out scheme and path/,
    ],
    [
      'a policy that is none',
      ['sandbox', 'create', '--network', 'all'],
      /'--network <policy>' argument 'all' is invalid/,
    ],
    [
      'rules beside a policy',
      ['sandbox', 'network', 'id', 'open', '--allow', 'a.test'],
      /--allow names all that may be reached: it goes without open/,
    ],
    ['an environment without names', ['sandbox', 'create', '--env', 'A'], /--env takes NAME=VALUE, not "A"/],
  ];
  for (const [name, args, text] of cases) {
    test(name, async ({ berth }) => {
      const { exitCode, stdout, stderr } = await berth.run(args);
      expect(stderr).toMatch(text);
      expect(stderr.split('\n')).toHaveLength(1);
      expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    });
  }
});

test('names the path and the reason of each thing in the input that does not fit', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run(['run', typed, '--input', '{"range":{"lines":[1,"2"]}}']);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  const [first, second, ...more] = stderr.split('\n');
  expect(first).toMatch(/input\.file: .*undefined/);
  expect(second).toMatch(/input\.range\.lines\[1\]: .*"2"/);
  expect(more).toEqual([]);
});

test('says what the workflow lacks when its file can not be loaded', async ({ berth }) => {
  const path = join(berth.stateDir, 'broken.ts');
  await writeFile(path, "import 'no-such-package';\n");
  const { exitCode, stderr } = await berth.run(['run', path]);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/broken\.ts can't be loaded: .*no-such-package/);
  expect(stderr.split('\n')).toHaveLength(1);
});

test('says how to name a file that Node takes for the older kind of modules', async ({ berth }) => {
  const path = join(berth.stateDir, 'flow.ts');
  await writeFile(path, "await null;\nexport { defineWorkflow as default } from 'berth';\n");
  const { exitCode, stderr } = await berth.run(['run', path]);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(
    /flow\.ts can't be loaded: .* name it flow\.mts, or have a package\.json with "type": "module"/,
  );
  expect(stderr.split('\n')).toHaveLength(1);
});

test('an engine that can not be reached is exit code 3, for every command that needs it', async ({ berth }) => {
  const env = { DOCKER_HOST: `unix://${berth.stateDir}/no.sock` };
  const commands = [
    ['run', 'test/cli/fixtures/works-for-ever.js'],
    ['sandbox', 'ls'],
    ['sandbox', 'create'],
    ['gc'],
    ['image', 'ls'],
    ['sandbox', 'rm', 'x'],
    ['sandbox', 'exec', 'x', '--', 'true'],
    ['sandbox', 'cp', 'x:a', '.'],
    ['image', 'build', '--json'],
  ];
  for (const args of commands) {
    const { exitCode, stdout, stderr } = await berth.run(args, env);
    expect(stdout).toBe('');
    expect(stderr, args.join(' ')).toMatch(/^berth: .*DOCKER_HOST/);
    expect(stderr.split('\n')).toHaveLength(1);
    expect(exitCode).toBe(3);
  }
});

test('a missing API key fails the run and names the variable', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(
    ['run', 'test/cli/fixtures/asks-a-model.js', '--json', '--model', 'anthropic/claude-sonnet-4-5'],
    { ANTHROPIC_API_KEY: '' },
  );
  expect(stderr).toMatch(/anthropic has no API key; set ANTHROPIC_API_KEY/);
  expect(stderr.split('\n')).toHaveLength(1);
  expect(exitCode).toBe(1);
});

test('an image that does not exist fails the run and says how to get it', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(['run', 'test/cli/fixtures/no-such-image.js', '--json']);
  expect(stderr).toMatch(/no image berth-test-no-such-image:1.*docker pull/);
  expect(stderr.split('\n')).toHaveLength(1);
  expect(exitCode).toBe(1);
});

test('an action that fails is exit code 1 and one line', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(['run', 'test/cli/fixtures/fails.js', '--json']);
  expect(stderr).toMatch(/^berth: This work can not be done: it is too hard\./);
  expect(stderr.split('\n')).toHaveLength(1);
  expect(exitCode).toBe(1);
});

test('a user that the image does not have is one line, and leaves no sandbox', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(['sandbox', 'create', '--user', 'nobody-here']);
  expect(stderr).toMatch(/could not be started: .*user nobody-here is not in \/etc\/passwd of the image$/);
  expect(stderr.length).toBeLessThan(300);
  expect(exitCode).toBe(1);
  expect(await berth.containers()).toEqual([]);
});

test('a state directory that can not be made, and a level of the log that is none, are one line', async ({ berth }) => {
  const state = await berth.run(['sandbox', 'ls'], { BERTH_STATE_DIR: '/etc/passwd/x' });
  expect(state.stderr).toBe(
    "berth: The state directory /etc/passwd/x can't be used: ENOTDIR. Set BERTH_STATE_DIR to a directory of this user.",
  );
  expect(state.exitCode).toBe(1);
  const level = await berth.run(['sandbox', 'ls'], { BERTH_LOG: 'loud' });
  expect(level.stderr).toMatch(/^berth: BERTH_LOG is one of trace, .*, not loud\.$/);
  expect(level.exitCode).toBe(2);
});
