import { Bash, defineCommand } from 'just-bash';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { SandboxGoneError } from '../../../src/runtime/errors.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import type { SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import { type VirtualOptions, virtual } from '../../../src/runtime/sandbox/virtual.ts';
import { sandboxContract } from '../../../src/testing/sandbox-contract.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf, ofType } from '../../support/runtime.ts';
import { sandboxRequest } from '../../support/sandbox-request.ts';
import { smallestProgram } from '../smallest-program.ts';

sandboxContract(
  { describe, test, beforeAll, afterAll },
  { name: 'virtual()', factory: () => virtual(), traits: { processes: false, background: false, streams: false } },
);

smallestProgram('virtual()', virtual);

const open = (factory: SandboxFactory, id = 'one', kind: 'run' | 'agent' = 'agent') =>
  factory.createSandbox(sandboxRequest({ id, kind }));

// contract: 10.2-virtual
test('has the files and variables that it is given, and works in its directory', async () => {
  const bytes = new Uint8Array([0, 255]);
  const env = await open(virtual({ files: { 'src/a.txt': 'a', '/etc/bytes': bytes }, env: { MODE: 'test' } }));
  expect(env.cwd).toBe('/workspace');
  expect((await env.exec('cat src/a.txt; pwd; echo $MODE')).stdout).toBe('a/workspace\ntest\n');
  expect(new Uint8Array(await env.readFileBuffer('/etc/bytes'))).toEqual(bytes);
  const elsewhere = await open(virtual({ cwd: '/home/me', files: { note: 'n' } }));
  expect((await elsewhere.exec('pwd; cat /home/me/note')).stdout).toBe('/home/me\nn');
});

// contract: 10.2-virtual
test('has no real programs, no files of this machine, and no network unless asked for', async () => {
  const env = await open(virtual());
  const command = 'node --version; curl http://127.0.0.1/; cat /proc/version; cat /etc/passwd; echo $PATH $HOME';
  const { stdout, stderr } = await env.exec(command);
  expect(stdout).not.toContain('root:');
  expect(stderr).toMatch(/node: command not found.*curl: command not found.*passwd: No such file/s);
  const asked = await open(virtual({ network: { allowedUrlPrefixes: ['https://example.com/'] } }));
  expect((await asked.exec('curl http://127.0.0.1/')).stderr).toMatch(/denied|not allowed|not in allow/i);
});

// contract: 10.2-virtual
test('keeps the files of an agent instance for each id; those of a run end with it', async () => {
  const factory = virtual();
  const first = await open(factory, 'one');
  await first.writeFile('note', 'of one');
  await first.close();
  expect(await (await open(factory, 'one')).readFile('note')).toBe('of one');
  expect(await (await open(factory, 'two')).exists('note')).toBe(false);

  const run = await open(factory, 'one', 'run');
  expect(await run.exists('note')).toBe(false);
  await run.writeFile('note', 'of a run');
  expect(await (await open(factory, 'one', 'run')).readFile('note')).toBe('of a run');
  await run.close('completed');
  expect(await (await open(factory, 'one', 'run')).exists('note')).toBe(false);
  expect(await (await open(virtual(), 'one')).exists('note')).toBe(false);
});

// contract: 10.1-resume
test('keeps the files of work that was suspended for when it goes on, also with another factory', async () => {
  const factory = virtual();
  const request = sandboxRequest();
  const before = await factory.createSandbox(request);
  await before.writeFile('note', 'kept');
  await before.close('suspended');
  const resumed = { ...request, resume: true };
  for (const next of [factory, virtual()]) {
    const after = await next.createSandbox(resumed);
    expect(await after.readFile('note')).toBe('kept');
    await after.close('suspended');
  }
  const last = virtual();
  await (await last.createSandbox(resumed)).close('completed');
  await expect(last.createSandbox(resumed)).rejects.toBeInstanceOf(SandboxGoneError);
  await expect(virtual().createSandbox(resumed)).rejects.toBeInstanceOf(SandboxGoneError);
});

test('keeps the indentation of a command, and what commands do at the same time apart', async () => {
  const env = await open(virtual());
  expect((await env.exec('cat <<END\n  indented\nEND')).stdout).toBe('  indented\n');
  const [one, two] = await Promise.all([
    env.exec('cd /tmp; export ONE=1; sleep 0.05; pwd; echo "$ONE"'),
    env.exec('sleep 0.01; pwd; echo "[$ONE]"'),
  ]);
  expect([one.stdout, two.stdout]).toEqual(['/tmp\n1\n', '/workspace\n[]\n']);
});

test('gives up a command that does not look at its signal, at once', async () => {
  const hang = defineCommand('hang', () => new Promise(() => {}));
  const env = await open(virtual({ bash: (options) => new Bash({ ...options, customCommands: [hang] }) }));
  expect(await env.exec('hang', { timeoutMs: 1 })).toMatchObject({ exitCode: 124, timedOut: true });
  const stop = new AbortController();
  const call = env.exec('touch started; hang', { signal: stop.signal });
  stop.abort('enough');
  await expect(call).rejects.toMatchObject({
    name: 'AbortError',
    cause: 'enough',
    message: 'The operation was aborted.',
  });
});

// contract: 10.2-virtual
test('works in the shell that `bash` makes of its options', async () => {
  const hello = defineCommand('hello', async ([name]) => ({ stdout: `Hello, ${name}!\n`, stderr: '', exitCode: 0 }));
  const bash: VirtualOptions['bash'] = async (options) => new Bash({ ...options, customCommands: [hello] });
  const env = await open(virtual({ bash, files: { who: 'you' }, env: { A: '1' }, cwd: '/here' }));
  expect((await env.exec('hello "$(cat who)"; pwd; echo $A')).stdout).toBe('Hello, you!\n/here\n1\n');
});

test('tells what its `bash` throws, and tries again for the next who asks', async () => {
  let calls = 0;
  const bash: VirtualOptions['bash'] = (options) => {
    calls++;
    if (calls === 1) throw new Error('not today');
    return new Bash(options);
  };
  const factory = virtual({ bash });
  await expect(open(factory)).rejects.toThrow('not today');
  expect((await (await open(factory)).exec('echo now')).stdout).toBe('now\n');
});

// contract: 10.2-virtual-warning
test('says that it is no boundary', () => {
  expect(virtual().warning).toMatch(/no boundary/);
});

test('refuses null as options', () => {
  expect(() => virtual(null as never)).toThrow(expect.objectContaining({ name: 'DefinitionError' }));
});

test('refuses options that are not known or not of their type, all at once', () => {
  const wrong = { cwd: 'here', files: { a: 1 }, env: { A: 1 }, network: true, bash: {}, extra: 1 };
  expect(() => virtual(wrong as never)).toThrow(
    expect.objectContaining({
      name: 'DefinitionError',
      issues: ['extra', 'cwd', 'files["a"]', 'env.A', 'network', 'bash'].map((path) => ({
        path,
        message: expect.any(String),
      })),
    }),
  );
});

test('a model works in it with all built-in tools', async () => {
  const model = scriptedModel([
    {
      toolCalls: [
        { name: 'write', input: { path: 'src/sum.mjs', content: 'export const sum = (a, b) => a - b;\n' } },
        { name: 'edit', input: { path: 'src/sum.mjs', oldText: 'a - b', newText: 'a + b' } },
        { name: 'read', input: { path: 'src/sum.mjs' } },
        { name: 'grep', input: { pattern: 'a \\+ b' } },
        { name: 'glob', input: { pattern: '*.mjs' } },
        { name: 'bash', input: { command: "sed 's/sum/total/' src/sum.mjs | tee src/total.mjs; exit 3" } },
        { name: 'bash', input: { command: 'for ((i = 0; i < 3000; i++)); do echo "line $i"; done' } },
        { name: 'bash', input: { command: 'sleep 60', timeout: 0.01 } },
        { name: 'grep', input: { pattern: '(' } },
        { name: 'read', input: { path: 'nothing' } },
      ],
    },
    'Done.',
  ]);
  const agent = defineAgent(() => ({ model, sandbox: virtual() }));
  await using runtime = await createRuntime({ store: ':memory:', logger: pino({ level: 'silent' }) });
  const workflow = defineWorkflow({
    name: 'works',
    agent,
    run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
  });
  const run = await runtime.invoke(workflow);
  expect(await run.result()).toBe('Done.');
  const results = ofType(await eventsOf(run), 'tool').map(({ toolName, isError, result }) => {
    const [part] = (result as { content: { text: string }[] }).content; // the tools here give texts
    return [toolName, isError, part?.text];
  });
  const told = (tool: string) => results.filter(([name]) => name === tool).map(([, ...rest]) => rest);
  expect(told('write')).toEqual([[false, 'Wrote src/sum.mjs (36 bytes).']]);
  expect(told('edit')).toEqual([[false, 'Edited src/sum.mjs in 1 place.']]);
  expect(told('read')).toEqual([
    [false, 'export const sum = (a, b) => a + b;\n'],
    [true, expect.stringContaining('ENOENT')],
  ]);
  expect(told('grep')).toEqual([
    [false, 'src/sum.mjs:1:export const sum = (a, b) => a + b;'],
    [true, expect.stringContaining('invalid regex')],
  ]);
  expect(told('glob')).toEqual([[false, 'src/sum.mjs']]);
  expect(told('bash')).toEqual([
    [false, 'export const total = (a, b) => a + b;\n\nExit code: 3'],
    [false, expect.stringMatching(/^\[The beginning is missing.*line 2999$/s)],
    [false, '(no output)\n\nKilled after 0.01 s, with all that it had started.\nExit code: 124'],
  ]);
});
