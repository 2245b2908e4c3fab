import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { abortError } from '../../src/errors.ts';
import { after } from '../../src/runtime/after.ts';
import type { EnvExecOptions, SandboxEnv } from '../../src/runtime/sandbox/env.ts';
import type { ExecResult } from '../../src/sandbox/process/result.ts';

/**
 * A sandbox that is a directory of this machine, gone when it is closed. It has only what every driver must have, so
 * that tools fall back on what a driver may leave out. `path` replaces the `PATH` of its commands.
 */
export async function localEnv({ path }: { path?: string } = {}): Promise<SandboxEnv & AsyncDisposable> {
  const cwd = await mkdtemp(join(tmpdir(), 'berth-test-'));
  const resolvePath = (name: string) => resolve(cwd, name);
  const close = () => rm(cwd, { recursive: true, force: true });
  return {
    cwd,
    resolvePath,
    exec: (command, options = {}) => run(command, options, resolvePath(options.cwd ?? '.'), path),
    readFile: (name) => readFile(resolvePath(name), 'utf8'),
    readFileBuffer: (name) => readFile(resolvePath(name)),
    async writeFile(name, content) {
      await mkdir(dirname(resolvePath(name)), { recursive: true });
      await writeFile(resolvePath(name), content);
    },
    async stat(name) {
      const found = await stat(resolvePath(name));
      return { isFile: found.isFile(), isDirectory: found.isDirectory(), size: found.size, mtime: found.mtime };
    },
    readdir: (name) => readdir(resolvePath(name)),
    exists: (name) =>
      stat(resolvePath(name)).then(
        () => true,
        () => false,
      ),
    async mkdir(name, options = {}) {
      await mkdir(resolvePath(name), options);
    },
    rm: (name, options = {}) => rm(resolvePath(name), options),
    open: () => Promise.reject(new Error('this sandbox has no children')),
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function run(line: string, options: EnvExecOptions, cwd: string, path: string | undefined): Promise<ExecResult> {
  const { signal, timeoutMs = Number.POSITIVE_INFINITY, maxOutput = 16 * 1024 * 1024 } = options;
  if (signal?.aborted) throw abortError(signal.reason);
  const startedAt = performance.now();
  const env = { ...process.env, ...(path !== undefined && { PATH: path }), ...options.env };
  const child = spawn('/bin/sh', ['-c', line], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const killTree = () => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL'); // detached: it leads a group of its own
  };
  let timedOut = false;
  const stopTimer = after(timeoutMs, () => {
    timedOut = true;
    killTree();
  });
  signal?.addEventListener('abort', killTree, { once: true });
  try {
    const exited = new Promise<{ exitCode: number | null; ended: string | null }>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (exitCode, ended) => resolve({ exitCode, ended }));
    });
    const [out, err, { exitCode, ended }] = await Promise.all([
      collect(child.stdout, maxOutput, options.onStdout),
      collect(child.stderr, maxOutput, options.onStderr),
      exited,
    ]);
    if (signal?.aborted) throw abortError(signal.reason);
    return {
      exitCode: timedOut ? 124 : exitCode,
      signal: ended,
      stdout: out.text,
      stderr: err.text,
      stdoutBytes: out.total,
      stderrBytes: err.total,
      truncated: out.total > maxOutput || err.total > maxOutput,
      timedOut,
      oomKilled: false,
      durationMs: Math.round(performance.now() - startedAt),
    };
  } finally {
    stopTimer();
    signal?.removeEventListener('abort', killTree);
  }
}

/** The last `limit` bytes of a stream. */
async function collect(stream: AsyncIterable<Uint8Array>, limit: number, watch?: (chunk: Uint8Array) => void) {
  let kept = Buffer.alloc(0);
  let total = 0;
  for await (const chunk of stream) {
    watch?.(chunk);
    total += chunk.length;
    kept = Buffer.concat([kept, chunk]);
    if (kept.length > limit) kept = kept.subarray(kept.length - limit);
  }
  return { text: kept.toString(), total };
}
