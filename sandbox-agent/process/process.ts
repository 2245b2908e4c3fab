import type { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import type { ListedProcess, ProcessEnd } from '../../src/protocol/process.ts';
import type { TerminalSize } from '../../src/protocol/values.ts';
import { RequestError } from '../errors.ts';
import type { Identity } from '../identity.ts';
import { signalNumber } from '../kernel.ts';
import type { Restored } from '../pty/emulator.ts';
import { Screen } from '../pty/screen.ts';
import { Terminal } from '../pty/terminal.ts';
import { endsInThisTurn } from './exit.ts';
import type { Entry, KeptDirectory, KeptProcess, StartOfProcess } from './kept.ts';
import { outOfMemoryKills } from './memory.ts';
import { PipeReader, readRest } from './pipe-reader.ts';
import { type Spawned, spawn } from './spawn.ts';
import { Spool } from './spool.ts';
import { forgetTree, killTree, liveProcesses, signalTree, type Tree, workOf } from './tree.ts';

export interface Command {
  processId: string;
  sessionId: string;
  /** Of its session and idempotency key. */
  key: string | undefined;
  asked: string | undefined;
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
// the pipe already: it has come when nothing more did for a while, and nothing that was left behind is at work. A process
// that goes on and on must not hold the end up; but one that passes on what the command wrote may have to wait for its turn.
const quietMs = 20;
const maxDrainMs = 500;
const maxPassOnMs = 5_000;

/** Of a terminal whose screen can't be restored. */
const newestBytes = 64 * 1024;
const unknownSize = { columns: 80, rows: 24 };

/** One command, from its start until its kept output is dropped. It belongs to the sandbox, not to a connection. */
export class SandboxProcess {
  readonly start: StartOfProcess;
  readonly stdout: Spool;
  readonly stderr: Spool;
  /** All that it has started; `undefined` for one of an earlier sandbox-agent, of which nothing is left. */
  readonly tree: Tree | undefined;
  /**
   * Resolves when it has ended and its output is complete.
   * @throws {RequestError} `process_lost`: nobody knows how it ended
   */
  readonly ended: Promise<ProcessEnd>;
  state: ListedProcess['state'] = 'running';
  /** Once its output is complete, too. */
  end: ProcessEnd | undefined;
  /** How many are being sent its output. */
  followers = 0;
  readonly #kept: KeptDirectory;
  readonly #startedTicks = performance.now();
  readonly #oomKillsBefore = outOfMemoryKills();
  #stdin: Socket | undefined;
  #terminal: Terminal | undefined;
  #screen: Screen | undefined;
  #size: TerminalSize | undefined;
  #timedOut = false;
  /** The end of its tree, once it is being killed. */
  #killed: Promise<void> | undefined;
  /** Pieces of output that are being kept. */
  #appending = 0;

  /**
   * Starts the command. What is not there or not executable is a process too, with code 127 or 126, as in a shell.
   * @throws {RequestError} no working directory, or the sandbox has no room for another process
   */
  static start(command: Command, kept: KeptDirectory): SandboxProcess {
    const started = spawn(command);
    const { processId, sessionId, key, asked, argv, terminal } = command;
    const start = {
      processId,
      sessionId,
      ...(key !== undefined && { key }),
      ...(asked !== undefined && { asked }),
      argv: argv.slice(0, limits.listedArguments).map((argument) => argument.slice(0, limits.listedArgument)),
      pid: started instanceof Error ? 0 : started.pid,
      startedAt: Date.now(),
      terminal: terminal !== undefined,
    };
    return new SandboxProcess(start, kept, command.trees[0], (one) => {
      kept.write({ type: 'started', start });
      return started instanceof Error ? one.#endUnstarted(started) : one.#run(started, command);
    });
  }

  /** One that an earlier sandbox-agent of this sandbox has started: it has ended, at the latest with that. */
  static restore({ start, end, segments }: KeptProcess, kept: KeptDirectory): SandboxProcess {
    const one = new SandboxProcess(start, kept, undefined, async () => {
      if (end) return end;
      throw new RequestError('process_lost', `process ${start.processId} ended with the sandbox: nobody knows how`);
    });
    one.stdout.restore(segments.stdout, end?.stdoutBytes ?? 0);
    one.stderr.restore(segments.stderr, end?.stderrBytes ?? 0);
    one.state = end ? 'ended' : 'lost';
    one.end = end;
    return one;
  }

  private constructor(
    start: StartOfProcess,
    kept: KeptDirectory,
    tree: Tree | undefined,
    run: (one: SandboxProcess) => Promise<ProcessEnd>,
  ) {
    this.start = start;
    this.tree = tree;
    this.#kept = kept;
    this.stdout = new Spool(kept, start.processId, 'stdout');
    this.stderr = new Spool(kept, start.processId, 'stderr');
    this.ended = run(this);
    this.ended.catch(() => {}); // told to those who wait for it
  }

  /** What the journal has of it. */
  get entries(): Entry[] {
    const { start, end } = this;
    const { processId } = start;
    return end
      ? [
          { type: 'started', start },
          { type: 'ended', processId, end },
        ]
      : [{ type: 'started', start }];
  }

  /** It has ended, and its output has come. */
  get complete(): boolean {
    return this.end !== undefined || this.state === 'lost';
  }

  /**
   * Sends a signal to the whole tree, and SIGKILL to what is left of it after `graceMs`. Waits for the end of all of it
   * only when the signal is SIGKILL.
   */
  async signal(signalName: string, graceMs: number | undefined): Promise<void> {
    const { tree } = this;
    const number = signalNumber(signalName);
    if (number === undefined) throw new RequestError('EINVAL', `there is no signal ${signalName}`);
    if (tree === undefined) return;
    // Told once, a tree that is just forking would have a process more than was looked at.
    if (number === constants.signals.SIGKILL) return this.#kill(tree);
    signalTree(tree, number);
    if (graceMs === undefined) return;
    const timer = setTimeout(() => void this.#kill(tree), graceMs);
    void this.ended.then(() => {
      // The command's end is not that of what it started; only a tree that is gone needs no second signal.
      if (!liveProcesses().has(tree)) clearTimeout(timer);
    });
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
    const end = () => stream.cancel();
    this.ended.then(end, end); // also of one that was lost with an earlier sandbox-agent: nobody else would catch that here
    try {
      for await (const chunk of stream) if (!(await this.#terminal?.write(chunk))) return;
    } catch {
      // The host gave up or is gone, or the terminal has just ended. Others may type on.
    } finally {
      stream.cancel();
    }
  }

  resize(size: TerminalSize): void {
    if (this.state !== 'running') return;
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
    const { key: _key, asked: _asked, ...start } = this.start;
    return {
      ...start,
      state: this.state,
      ...(this.end && { end: this.end }),
      pids: pids.slice(0, 1_024),
      stdout: { bytes: this.stdout.total, gaps: this.stdout.gaps },
      stderr: { bytes: this.stderr.total, gaps: this.stderr.gaps },
    };
  }

  /** Drops the kept output. What it has left running goes on. */
  close(): void {
    this.stdout.close();
    this.stderr.close();
    if (this.tree !== undefined) forgetTree(this.tree);
  }

  async #run(started: Spawned, { timeoutMs, terminal: size }: Command): Promise<ProcessEnd> {
    const { pid, exit, stdin, output } = started;
    const terminal = output instanceof Terminal ? output : undefined;
    this.#stdin = stdin;
    this.#terminal = terminal;
    this.#size = size;
    this.#screen = size && new Screen(size);
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => this.#timeout(), timeoutMs);
    const drained =
      output instanceof Terminal
        ? this.#collect(output.output, this.stdout)
        : Promise.all([
            this.#collectPipe(output.stdout, this.stdout, pid),
            this.#collectPipe(output.stderr, this.stderr, pid),
          ]);
    const { code, signal } = await exit;
    clearTimeout(timer);
    this.#stdin?.destroy();
    // What was killed is dead to the last process when the end is reported.
    await this.#killed;
    // Else a reader that is far behind would keep the last of it where it is.
    this.stdout.stopWaiting();
    this.stderr.stopWaiting();
    this.#screen?.stopWaiting();
    await this.#drain(drained);
    // What was reported is there for the next sandbox-agent.
    await Promise.all([this.stdout.stored(), this.stderr.stored()]);
    // As a terminal does: what was left running on it gets no more of it.
    terminal?.close();
    this.#screen?.end();
    this.stdout.end();
    this.stderr.end();
    return this.#end(code, signal);
  }

  /** As `#collect`. To read what a short command has left takes no stream. */
  async #collectPipe(fd: number, spool: Spool, pid: number): Promise<void> {
    if (await endsInThisTurn(pid)) {
      const { pieces, isAll } = readRest(fd);
      for (const piece of pieces) await spool.append(piece);
      if (isAll) return spool.complete();
    }
    await this.#collect(new PipeReader(fd), spool);
  }

  /** Reads to the end, also after the command's: a process that it left behind must not meet a closed pipe. */
  async #collect(output: Readable, spool: Spool): Promise<void> {
    try {
      for await (const chunk of output) {
        this.#appending++;
        const onUnused = output instanceof PipeReader ? () => output.recycle(chunk) : undefined;
        await Promise.all([this.#screen?.write(chunk), spool.append(chunk, onUnused)]);
        this.#appending--;
      }
    } catch {
      // A pipe has no read errors, and that of a terminal is its end.
    }
    spool.complete();
  }

  /** Until all output has come, or none does any more. */
  async #drain(drained: Promise<unknown>): Promise<void> {
    let isDrained = false;
    void drained.then(() => {
      isDrained = true;
    });
    const since = performance.now();
    for (let before = -1; ; ) {
      // After a pause, for want of CPU, the timer's turn is first: what came meanwhile is read in the rest of it.
      await nextTurn();
      if (isDrained) return;
      const now = this.#written;
      const tookMs = performance.now() - since;
      if ((tookMs > maxDrainMs || this.#isQuiet(before)) && !this.#isAwaited(tookMs)) {
        // It may have written its last while it was looked for.
        await nextTurn();
        if (tookMs > maxDrainMs || this.#isQuiet(now)) return;
      }
      before = now;
      await within(quietMs, drained);
    }
  }

  get #written(): number {
    return this.stdout.total + this.stderr.total;
  }

  /** Nothing came since this much was written. */
  #isQuiet(written: number): boolean {
    return this.#written === written && this.#appending === 0;
  }

  /** What the command left behind is at work, and has not been waited for too long. */
  #isAwaited(tookMs: number): boolean {
    if (this.tree === undefined) return false;
    const { isAny, isPassingOn } = workOf(this.tree);
    return tookMs > maxDrainMs ? isPassingOn && tookMs < maxPassOnMs : isAny;
  }

  async #endUnstarted(error: NodeJS.ErrnoException): Promise<ProcessEnd> {
    const missing = error.code === 'ENOENT' || error.code === 'ENOTDIR';
    const text = missing ? 'not found' : (error.code ?? error.message);
    const line = `${this.start.argv[0]}: ${text}`;
    if (this.start.terminal) await this.stdout.append(Buffer.from(`${line}\r\n`));
    else await this.stderr.append(Buffer.from(`${line}\n`));
    this.stdout.complete();
    this.stderr.complete();
    return this.#end(missing ? 127 : 126, null);
  }

  #end(exitCode: number | null, signal: string | null): ProcessEnd {
    this.state = 'ended';
    this.end = {
      exitCode,
      signal,
      // It may have ended by itself in the moment before.
      timedOut: this.#timedOut && signal === 'SIGKILL',
      oomKilled: outOfMemoryKills() > this.#oomKillsBefore,
      stdoutBytes: this.stdout.total,
      stderrBytes: this.stderr.total,
      durationMs: performance.now() - this.#startedTicks,
    };
    // Before anybody is told: what was reported is known to the next sandbox-agent.
    this.#kept.write({ type: 'ended', processId: this.start.processId, end: this.end });
    return this.end;
  }

  #timeout(): void {
    this.#timedOut = true;
    if (this.tree !== undefined) void this.#kill(this.tree);
  }

  /** Resolves when the whole tree is dead. */
  #kill(tree: Tree): Promise<void> {
    this.#killed = killTree(tree);
    return this.#killed;
  }
}

/** Resolves with `done`, at the latest after `ms`. */
async function within(ms: number, done: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([done, late]);
  clearTimeout(timer);
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
