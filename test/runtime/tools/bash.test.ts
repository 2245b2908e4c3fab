import { describe, expect, test } from 'vitest';
import type { SandboxEnv } from '../../../src/runtime/sandbox/env.ts';
import { builtinTools } from '../../../src/runtime/tools/builtin.ts';
import { SandboxTools } from '../../../src/runtime/tools/tool-environment.ts';
import type { ExecResult } from '../../../src/sandbox/process/result.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';
import { toolBench } from './tool-bench.ts';

describe('the text of a command', () => {
  // contract: 5-bash-text
  test('is stdout, newline, stderr, trimmed', async () => {
    await using bench = await toolBench();
    expect(await bench.text('bash', { command: 'echo out; echo err >&2' })).toBe('out\n\nerr');
    expect(await bench.text('bash', { command: 'echo err >&2' })).toBe('err');
    expect(await bench.text('bash', { command: 'true' })).toBe('(no output)');
  });

  // contract: 5-bash-exit-code
  test('ends with an empty line and the exit code when that is not 0', async () => {
    await using bench = await toolBench();
    const { content, isError, details } = await bench.call('bash', { command: 'echo no; exit 3' });
    expect(content).toEqual([{ type: 'text', text: 'no\n\nExit code: 3' }]);
    expect(isError).toBeUndefined();
    expect(details).toMatchObject({ exitCode: 3, timedOut: false });
    expect(await bench.text('bash', { command: 'exit 1' })).toBe('(no output)\n\nExit code: 1');
    expect(await bench.text('bash', { command: 'kill -9 $$' })).toBe(
      '(no output)\n\nEnded by SIGKILL.\nExit code: 137',
    );
  });

  // contract: 5-bash-timeout
  test('says that the time was over, and keeps the output until then', async () => {
    await using bench = await toolBench();
    const text = await bench.text('bash', { command: 'echo begun; sleep 1000', timeout: '1.5' });
    expect(text).toBe('begun\n\nKilled after 1.5 s, with all that it had started.\nExit code: 124');
    expect(await bench.error('bash', { command: 'true', timeout: 0 })).toContain('arguments.timeout');
    expect(await bench.error('bash', { command: 'true', timeout: -1 })).toContain('arguments.timeout');
  });

  // contract: 5-bash-cut, 5-cut
  test('is cut from the front, whole lines; the file in the sandbox has all of it', async () => {
    await using bench = await toolBench();
    const text = await bench.text('bash', { command: 'seq 1 3000; exit 1' });
    const [note = '', ...lines] = text.split('\n');
    expect(lines.slice(0, 2)).toEqual(['1001', '1002']);
    expect(lines.slice(-3)).toEqual(['3000', '', 'Exit code: 1']);
    const path = /The beginning is missing: .* 13893 bytes of output\. All of it is in (\S+)\]$/.exec(note)?.[1] ?? '';
    expect(path).toMatch(/^\/tmp\/\.berth-output-/);
    expect(await bench.text('bash', { command: `wc -l < ${path}; head -1 ${path}` })).toBe('2999\n1');
  });

  // contract: 5-bash-cut, 5-cut
  test('is cut at 50 KB, inside a line that is longer, never inside a character', async () => {
    await using bench = await toolBench();
    const text = await bench.text('bash', {
      command: `printf 'first\\nx'; head -c 60000 /dev/zero | sed 's/\\x00/é/g'`,
    });
    const [, kept] = text.split('\n');
    expect(kept).toBe('é'.repeat(25_600));
  });

  // contract: 5-bash-memory
  test('says what was lost when not even the sandbox has it', async () => {
    await using bench = await toolBench();
    // As a driver gives it that keeps 100 bytes of 1,000,000.
    const result: ExecResult = {
      ...{ exitCode: 0, signal: null, stderr: '', stderrBytes: 0, timedOut: false, oomKilled: true, durationMs: 1 },
      ...{ stdout: 'x'.repeat(100), stdoutBytes: 1_000_000, truncated: true },
    };
    const env: SandboxEnv = {
      ...bench.env,
      exec: async () => result,
      writeFile: () => Promise.reject(new Error('full')),
    };
    const bash = builtinTools({ env, shared: new SandboxTools(), seesImages: true, key: (id) => id }).find(
      ({ name }) => name === 'bash',
    );
    const context = { toolCallId: 'c', signal: new AbortController().signal, output: () => {} };
    const given = await bash?.run({ command: 'big' }, context);
    expect(given?.content).toMatchObject([
      { text: /^\[.* 1000000 bytes of output\. It could not be kept in a file\.\]\nx+\n\nOut of memory/ },
    ]);
  });
});

// contract: 5-bash-streamed
test('output is shown while it comes', async () => {
  await using bench = await toolBench();
  await bench.call('bash', { command: "printf '\\303'; sleep 0.05; printf '\\251\\n'; echo oops >&2" });
  expect(bench.output.filter((line) => line.startsWith('stdout')).join('')).toBe('stdout: é\n');
  expect(bench.output).toContain('stderr: oops\n');
});

// contract: 5-bash-shell, 5-bash-files, 5-bash-input
test('the command runs in bash, and only files outlive it', async () => {
  await using bench = await toolBench();
  expect(await bench.text('bash', { command: `x=(a b); echo \${x[1]} "it's" > f; cd /; cat` })).toBe('(no output)');
  expect(await bench.text('bash', { command: 'cat f; basename "$PWD" | cut -c1-10' })).toBe("b it's\nberth-test");
});

// contract: 5-bash-shell
test('where there is no bash, it runs in sh', async () => {
  await using bench = await toolBench({ path: '/nowhere' });
  expect(await bench.text('bash', { command: `echo "in \${BASH_VERSION:-sh}"` })).toBe('in sh');
});

test('an abort ends the command and rejects', async () => {
  await using bench = await toolBench();
  const running = bench.call('bash', { command: 'echo begun; sleep 1000' });
  while (bench.output.length === 0) await new Promise((resolve) => setImmediate(resolve));
  bench.stop.abort();
  await expect(running).rejects.toMatchObject({ name: 'AbortError' });
});

// contract: 5-bash-background
test('what a command leaves in the background is still there for the next one', async () => {
  await using bench = await toolBench();
  const pid = await bench.text('bash', { command: 'sleep 1000 >/dev/null 2>&1 & echo $!' });
  expect(await bench.text('bash', { command: `kill -0 ${pid} && echo there` })).toBe('there');
});

// contract: 5-bash-timeout-default
test('a command without a time of its own has 600 s', async () => {
  await using bench = await toolBench();
  const asked: unknown[] = [];
  const exec: SandboxEnv['exec'] = (command, options) => {
    asked.push(options?.timeoutMs);
    return bench.env.exec(command, options);
  };
  const env = Object.assign(Object.create(bench.env) as SandboxEnv, { exec });
  const bash = builtinTools({ env, shared: bench.shared, seesImages: true, key: (id) => id }).find(
    ({ name }) => name === 'bash',
  );
  const context = { toolCallId: 'c', signal: new AbortController().signal, output: () => {} };
  await bash?.run({ command: 'true' }, context);
  expect(asked.at(-1)).toBe(600_000);
});

// contract: 5-large-output
test('ten megabytes of output reach neither the model nor the conversation, and a file of the sandbox has them', async () => {
  const command = "head -c 10000000 /dev/zero | tr '\\0' 'x' | fold -w 99";
  const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: { command } }] }, 'Done.']);
  await using bench = await harnessBench({ model });
  const session = await bench.harness.session();
  await session.prompt('Go.');
  expect(JSON.stringify(model.requests).length).toBeLessThan(200_000);
  expect(JSON.stringify(await session.history()).length).toBeLessThan(60_000);
  const path = /All of it is in ([^\s\]]+)\]/.exec(JSON.stringify(model.requests[1]?.messages))?.[1] ?? '';
  expect(await bench.env.stat(path)).toMatchObject({ size: 10_101_010 });
});
