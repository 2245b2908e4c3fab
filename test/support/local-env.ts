import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from '../../src/runtime/after.ts';
import { sandboxFromDriver } from '../../src/runtime/sandbox/driver.ts';
import type { DriverResult, EnvExecOptions, SandboxDriver, SandboxEnv } from '../../src/runtime/sandbox/env.ts';

/**
 * A driver for a directory of this machine. It has only what every driver must have, so that tools fall back on what a
 * driver may leave out. `path` replaces the `PATH` of its commands.
 */
export function localDriver({ path }: { path?: string } = {}): SandboxDriver {
  return {
    exec: (command, options = {}) => run(command, options, path),
    readFile: (name) => readFile(name, 'utf8'),
    readFileBuffer: (name) => readFile(name),
    writeFile: (name, content) => writeFile(name, content),
    async stat(name) {
      const found = await stat(name);
      return { isFile: found.isFile(), isDirectory: found.isDirectory(), size: found.size, mtime: found.mtime };
    },
    readdir: (name) => readdir(name),
    exists: (name) =>
      stat(name).then(
        () => true,
        () => false,
      ),
    async mkdir(name, options = {}) {
      await mkdir(name, options);
    },
    rm: (name, options = {}) => rm(name, options),
  };
}

/** A sandbox of that driver, in a directory that is gone when it is closed. */
export async function localEnv(options: { path?: string } = {}): Promise<SandboxEnv> {
  const cwd = await realpath(await mkdtemp(join(tmpdir(), 'berth-test-')));
  return sandboxFromDriver(localDriver(options), { cwd, dispose: () => rm(cwd, { recursive: true, force: true }) });
}

async function run(line: string, options: EnvExecOptions, path: string | undefined): Promise<DriverResult> {
  const { cwd, signal, timeoutMs = Number.POSITIVE_INFINITY, maxOutput = 16 * 1024 * 1024 } = options;
  const env = { ...process.env, ...(path !== undefined && { PATH: path }), ...options.env };
  const child = spawn('/bin/sh', ['-c', line], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const killTree = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL'); // detached: it leads a group of its own
    } catch {
      // Nothing of the group is left.
    }
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
    if (signal?.aborted) throw new Error('killed by its signal');
    return {
      exitCode,
      signal: ended,
      stdout: out.text,
      stderr: err.text,
      stdoutBytes: out.total,
      stderrBytes: err.total,
      truncated: out.total > maxOutput || err.total > maxOutput,
      timedOut,
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
