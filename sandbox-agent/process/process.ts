import { statSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises';
import type { WireStream } from '../../src/protocol/mux.ts';
import type { ListedProcess, ProcessEnd } from '../../src/protocol/process.ts';
import type { TerminalSize } from '../../src/protocol/values.ts';
import { RequestError } from '../errors.ts';
import type { Identity } from '../identity.ts';
import { signalNumber } from '../kernel.ts';
import type { Restored } from '../pty/emulator.ts';
import { Screen } from '../pty/screen.ts';
import type { Terminal } from '../pty/terminal.ts';
import { outOfMemoryKills } from './memory.ts';
import { type Spawned, spawn } from './spawn.ts';
import { Spool } from './spool.ts';
import { forgetTree, killTree, liveProcesses, signalTree, type Tree } from './tree.ts';

export interface Command {
  processId: string;
  sessionId: string;
  /** Of its session and idempotency key. */
  key: string | undefined;
  argv: string[];
  cwd: string;
  env: Record<string, string>;
  /** Its own, and that of its session, unless it is to outlive it. */
  trees: readonly [own: Tree, ...session: Tree[]];
  identity: Identity;
  umask: number | undefined;
  timeoutMs: number | undefined;
  hasStdin: boolean;
  /** The size of its terminal; left out: it runs on pipes. */
  terminal: TerminalSize | undefined;
}

// After a command's end its output may stay open in a process that it left behind. What the command itself wrote is in
// the pipe already: it has come when nothing more did for a while. A process that prints on must not hold the end up.
const quietMs = 20;
const maxDrainMs = 500;

/** Of a terminal whose screen can't be restored. */
const newestBytes = 64 * 1024;
const unknownSize = { columns: 80, rows: 24 };

/** One command, from its start until its kept output is dropped. It belongs to the sandbox, not to a connection. */
export class SandboxProcess {
  readonly command: Command;
  readonly startedAt = Date.now();
  readonly stdout = new Spool();
  readonly stderr = new Spool();
  /** 0 when the command could not be started. */
  readonly pid: number;
  /** Resolves when it has ended and its output is complete; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  running = true;
  /** It has ended, and its output has come. */
  complete = false;
  /** How many are being sent its output. */
  followers = 0;
  readonly #startedTicks = performance.now();
  readonly #oomKillsBefore = outOfMemoryKills();
  readonly #stdin: Socket | undefined;
  readonly #terminal: Terminal | undefined;
  readonly #screen: Screen | undefined;
  #size: TerminalSize | undefined;
  #timedOut = false;
  /** Pieces of output that are being kept. */
  #appending = 0;

  /**
   * Starts the command. What is not there or not executable is a process too, with code 127 or 126, as in a shell.
   * @throws {RequestError} no working directory, or the sandbox has no room for another process
   */
  static start(command: Command): SandboxProcess {
    if (!statSync(command.cwd).isDirectory()) {
      throw new RequestError('ENOTDIR', `the working directory ${command.cwd} is no directory`);
    }
    return new SandboxProcess(command, spawn(command));
  }

  private constructor(command: Command, started: Spawned | NodeJS.ErrnoException) {
    this.command = command;
    this.#size = command.terminal;
    if (started instanceof Error) {
      this.pid = 0;
      this.running = false;
      this.ended = this.#endUnstarted(started);
      return;
    }
    this.pid = started.pid;
    this.#stdin = started.stdin;
    this.#terminal = started.terminal;
    this.#screen = command.terminal && new Screen(command.terminal);
    this.ended = this.#run(started);
  }

  get tree(): Tree {
    return this.command.trees[0];
  }

  #signal(name: string): void {
    const number = signalNumber(name);
    if (number === undefined) throw new RequestError('EINVAL', `there is no signal ${name}`);
    signalTree(this.tree, number);
  }

  /** Sends a signal to the whole tree, and SIGKILL to what is left of it after `graceMs`. Does not wait for the end. */
  end(signalName: string, graceMs: number | undefined): void {
    this.#signal(signalName);
    if (graceMs === undefined) return;
    const timer = setTimeout(() => void this.kill(), graceMs);
    void this.ended.then(() => {
      // The command's end is not that of what it started; only a tree that is gone needs no second signal.
      if (!liveProcesses().has(this.tree)) clearTimeout(timer);
    });
  }

  /** Kills the whole tree; resolves when it is dead. */
  kill(): Promise<void> {
    return killTree(this.tree);
  }

  /** Gives the process what comes on `stream`, as fast as it reads. It may close its end or die before: then no more. */
  async feed(stream: WireStream): Promise<void> {
    const stdin = this.#stdin;
    try {
      if (!stdin) return;
      for await (const chunk of stream) {
        if (stdin.destroyed) return;
        if (!stdin.write(chunk)) await drained(stdin);
      }
      stdin.end();
    } catch {
      // The host gave up or is gone: half an input must not look like a whole one, but closing is all a pipe can say.
      stdin?.destroy();
    } finally {
      stream.cancel();
    }
  }

  /** Types what comes on `stream`, as fast as it is read, until the process ends. */
  async type(stream: WireStream): Promise<void> {
    void this.ended.then(() => stream.cancel());
    try {
      for await (const chunk of stream) if (!(await this.#terminal?.write(chunk))) return;
    } catch {
      // The host gave up or is gone, or the terminal has just ended. Others may type on.
    } finally {
      stream.cancel();
    }
  }

  resize(size: TerminalSize): void {
    if (!this.running) return;
    this.#size = size;
    this.#terminal?.resize(size);
    this.#screen?.resize(size);
  }

  /**
   * What a terminal shows to one who comes to it now: its newest output where its screen can't be told.
   * @param from - the output from there on instead
   */
  async view(from: number | undefined): Promise<Restored & { size: TerminalSize }> {
    const size = this.#size ?? unknownSize;
    if (from !== undefined) return { size, screen: new Uint8Array(), from };
    const restored = await this.#screen?.restore();
    return { size, ...(restored ?? { screen: new Uint8Array(), from: Math.max(0, this.stdout.total - newestBytes) }) };
  }

  /** @param pids - what is alive of its tree */
  list(pids: readonly number[]): ListedProcess {
    return {
      processId: this.command.processId,
      sessionId: this.command.sessionId,
      argv: this.command.argv.slice(0, 16).map((argument) => argument.slice(0, 256)),
      pid: this.pid,
      terminal: this.command.terminal !== undefined,
      startedAt: this.startedAt,
      running: this.running,
      pids: pids.slice(0, 1_024),
    };
  }

  /** Drops the kept output. What it has left running goes on. */
  close(): void {
    this.stdout.close();
    this.stderr.close();
    forgetTree(this.tree);
  }

  async #run({ exit, stdout, stderr, terminal }: Spawned): Promise<ProcessEnd> {
    const timer =
      this.command.timeoutMs === undefined ? undefined : setTimeout(() => void this.#timeout(), this.command.timeoutMs);
    const drained = Promise.all([this.#collect(stdout, this.stdout), stderr && this.#collect(stderr, this.stderr)]);
    const { code, signal } = await exit;
    this.running = false;
    clearTimeout(timer);
    this.#stdin?.destroy();
    // What was killed for its time is dead to the last process when the end is reported.
    if (this.#timedOut) await this.kill();
    // Else a reader that is far behind would keep the last of it where it is.
    this.stdout.stopWaiting();
    this.stderr.stopWaiting();
    await this.#drain(drained);
    // As a terminal does: what was left running on it gets no more of it.
    terminal?.close();
    this.#screen?.end();
    this.stdout.end();
    this.stderr.end();
    return this.#end(code, signal);
  }

  /** Reads to the end, also after the command's: a process that it left behind must not meet a closed pipe. */
  async #collect(output: Readable, spool: Spool): Promise<void> {
    try {
      for await (const chunk of output) {
        this.#appending++;
        await Promise.all([this.#screen?.write(chunk), spool.append(chunk)]);
        this.#appending--;
      }
    } catch {
      // A pipe has no read errors, and that of a terminal is its end.
    }
  }

  /** Until all output has come, or none does any more. */
  async #drain(drained: Promise<unknown>): Promise<void> {
    const stop = new AbortController();
    const isDrained = drained.then(() => true);
    const deadline = performance.now() + maxDrainMs;
    try {
      for (let before = -1; performance.now() < deadline; ) {
        const now = this.stdout.total + this.stderr.total;
        if (now === before && this.#appending === 0) return;
        before = now;
        if (await Promise.race([isDrained, wait(quietMs, false, { signal: stop.signal })])) return;
        // After a pause, for want of CPU, the timer's turn is first: what came meanwhile is read in the rest of it.
        await nextTurn();
      }
    } finally {
      stop.abort();
    }
  }

  async #endUnstarted(error: NodeJS.ErrnoException): Promise<ProcessEnd> {
    const missing = error.code === 'ENOENT' || error.code === 'ENOTDIR';
    const text = missing ? 'not found' : (error.code ?? error.message);
    const line = `${this.command.argv[0]}: ${text}`;
    if (this.command.terminal) await this.stdout.append(Buffer.from(`${line}\r\n`));
    else await this.stderr.append(Buffer.from(`${line}\n`));
    this.stdout.end();
    this.stderr.end();
    return this.#end(missing ? 127 : 126, null);
  }

  #end(exitCode: number | null, signal: string | null): ProcessEnd {
    return {
      exitCode,
      signal,
      timedOut: this.#timedOut,
      oomKilled: outOfMemoryKills() > this.#oomKillsBefore,
      stdoutBytes: this.stdout.total,
      stderrBytes: this.stderr.total,
      durationMs: performance.now() - this.#startedTicks,
    };
  }

  async #timeout(): Promise<void> {
    this.#timedOut = true;
    await this.kill();
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}
