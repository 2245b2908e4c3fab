import { accessSync, closeSync, constants, statSync } from 'node:fs';
import { Socket } from 'node:net';
import { resolve } from 'node:path';
import type { TerminalSize } from '../../src/protocol/values.ts';
import { RequestError } from '../errors.ts';
import { kernelPath } from '../fs/path.ts';
import { asCommand } from '../identity.ts';
import {
  makePipe,
  type OpenedTerminal,
  openTerminal,
  type Program,
  setGroupPriority,
  setNonBlocking,
  spawnProgram,
} from '../kernel.ts';
import { Terminal } from '../pty/terminal.ts';
import { exitOf } from './exit.ts';
import { startKilledFirst } from './memory.ts';
import type { Command } from './process.ts';
import { isTree } from './tree.ts';

export interface Spawned {
  pid: number;
  exit: ReturnType<typeof exitOf>;
  stdin: Socket | undefined;
  /** What its outputs are read from. */
  output: Terminal | { stdout: number; stderr: number };
}

/**
 * Starts a command, on pipes or on a terminal.
 * @returns the error for a program that is not there or can't be executed
 * @throws {RequestError} the sandbox has no room for another process
 */
export function spawn(command: Command): Spawned | NodeJS.ErrnoException {
  return command.terminal ? spawnOnTerminal(command, command.terminal) : spawnOnPipes(command);
}

function spawnOnPipes(command: Command): Spawned | NodeJS.ErrnoException {
  const pipes: { readEnd: number; writeEnd: number }[] = [];
  const makeKept = () => {
    const pipe = makePipe();
    pipes.push(pipe);
    return pipe;
  };
  try {
    const [stdout, stderr] = [makeKept(), makeKept()];
    const stdin = command.hasStdin ? makeKept() : undefined;
    const stdio = { stdin: stdin?.readEnd, stdout: stdout.writeEnd, stderr: stderr.writeEnd };
    const { pid, exit } = start(command, stdio);
    for (const end of [stdin?.readEnd, stdout.writeEnd, stderr.writeEnd]) if (end !== undefined) closeSync(end);
    for (const { readEnd } of [stdout, stderr]) setNonBlocking(readEnd);
    const output = { stdout: stdout.readEnd, stderr: stderr.readEnd };
    return { pid, exit, stdin: stdin && writer(stdin.writeEnd), output };
  } catch (error) {
    for (const { readEnd, writeEnd } of pipes) {
      closeSync(readEnd);
      closeSync(writeEnd);
    }
    return failureOf(error);
  }
}

function spawnOnTerminal(command: Command, size: TerminalSize): Spawned | NodeJS.ErrnoException {
  const { master, slave, path } = terminalOf(command, size);
  try {
    const started = start(command, path);
    const terminal = new Terminal(master);
    // Not before the program has ended: many close their files first, which would be the end of the terminal, and the
    // kernel would then hang up on a program that was about to give its code.
    void started.exit.then(() => closeSync(slave));
    return { ...started, stdin: undefined, output: terminal };
  } catch (error) {
    closeSync(master);
    closeSync(slave);
    return failureOf(error);
  }
}

function terminalOf(command: Command, size: TerminalSize): OpenedTerminal {
  try {
    // The kernel gives it to the user who makes it.
    return asCommand(command.identity, () => openTerminal(size));
  } catch (error) {
    const { code = 'EIO', message } = error as NodeJS.ErrnoException;
    throw new RequestError(code, `no terminal could be made: ${message}`);
  }
}

/**
 * The sandbox-agent is to be heard among a thousand commands that all want the CPU: this gives each a ninth of its weight.
 * Among themselves, and beside other sandboxes, nothing changes.
 */
const niceOfCommands = 19;

function start(command: Command, stdio: Program['stdio']): Pick<Spawned, 'pid' | 'exit'> {
  const groups = [...command.identity.groups.filter((group) => !isTree(group)), ...command.trees];
  const pid = withUmask(command.umask, () =>
    asCommand({ ...command.identity, groups }, () => {
      checkDirectory(command.cwd);
      const pid = startKilledFirst(() => search(command, stdio));
      setGroupPriority(pid, niceOfCommands);
      return pid;
    }),
  );
  return { pid, exit: exitOf(pid) };
}

/** Looked at alone: what is wrong with it would be told of the program. @throws {RequestError} */
function checkDirectory(path: string): void {
  try {
    if (!statSync(kernelPath(path)).isDirectory())
      throw Object.assign(new Error('is no directory'), { code: 'ENOTDIR' });
    accessSync(kernelPath(path), constants.X_OK);
  } catch (error) {
    const { code = 'EIO', message } = error as NodeJS.ErrnoException;
    throw new RequestError(code, `the working directory ${path} can't be entered: ${message}`);
  }
}

/** @throws {RequestError} it is not the program's fault */
function failureOf(error: unknown): NodeJS.ErrnoException {
  if (error instanceof RequestError) throw error;
  const failure = error as NodeJS.ErrnoException;
  switch (failure.code) {
    case 'EAGAIN':
      throw new RequestError('process_limit', 'the sandbox is at its limit of processes');
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOMEM':
      throw new RequestError(failure.code, `the command could not be started: ${failure.message}`);
    default:
      return failure;
  }
}

/**
 * The umask is one for all threads of the sandbox-agent (that a thread gets one of its own is not allowed in a container),
 * and a program begins with that of its starter: so it changes for as long as the start takes. Operations on files that
 * are under way on other threads do not depend on it: see `makeDirectory` of `fs/`.
 */
function withUmask<Result>(mask: number | undefined, action: () => Result): Result {
  if (mask === undefined) return action();
  const before = process.umask(mask);
  try {
    return action();
  } finally {
    process.umask(before);
  }
}

/** Finds the program as execvp(3) does, with the rights of the command's user. @throws the kernel's error */
function search({ argv, cwd, env }: Command, stdio: Program['stdio']): number {
  const [file = ''] = argv;
  const run = (path: string) => execute({ path, argv, cwd, env, stdio });
  if (file.includes('/')) return run(file);
  let denied: unknown;
  if (file !== '') {
    for (const directory of (env.PATH ?? '').split(':')) {
      const path = resolve(cwd, directory, file);
      try {
        if (statSync(kernelPath(path), { throwIfNoEntry: false })?.isFile()) return run(path);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // One that may not be looked at or executed is passed over, and told when there is no other.
        if (code === 'EACCES') denied = error;
        else if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
      }
    }
  }
  throw denied ?? Object.assign(new Error(`${file} is not in PATH`), { code: 'ENOENT' });
}

/** A file without `#!` that is no program is a script of the shell: execvp(3). */
function execute(program: Program): number {
  try {
    return spawnProgram(program);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOEXEC') throw error;
    return spawnProgram({ ...program, path: '/bin/sh', argv: ['/bin/sh', program.path, ...program.argv.slice(1)] });
  }
}

function writer(fd: number): Socket {
  const socket = new Socket({ fd, readable: false, writable: true });
  // A process that closes its input or ends makes EPIPE: no news for anyone.
  socket.on('error', () => {});
  return socket;
}
