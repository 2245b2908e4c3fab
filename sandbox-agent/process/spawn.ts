import { closeSync, statSync } from 'node:fs';
import { Socket } from 'node:net';
import { resolve } from 'node:path';
import { RequestError } from '../errors.ts';
import { asCommand } from '../identity.ts';
import { makePipe, type Program, spawnProgram } from '../kernel.ts';
import { exitOf } from './exit.ts';
import { startKilledFirst } from './memory.ts';
import type { Command } from './process.ts';
import { isTree } from './tree.ts';

export interface Spawned {
  pid: number;
  exit: ReturnType<typeof exitOf>;
  stdin: Socket | undefined;
  stdout: Socket;
  stderr: Socket;
}

/**
 * Starts a command on pipes.
 * @returns the error for a program that is not there or can't be executed
 * @throws {RequestError} the sandbox has no room for another process
 */
export function spawn(command: Command): Spawned | NodeJS.ErrnoException {
  const pipes: { readEnd: number; writeEnd: number }[] = [];
  const makeKept = () => {
    const pipe = makePipe();
    pipes.push(pipe);
    return pipe;
  };
  try {
    const [stdout, stderr] = [makeKept(), makeKept()];
    const stdin = command.hasStdin ? makeKept() : undefined;
    const groups = [...command.identity.groups.filter((group) => !isTree(group)), ...command.trees];
    const start = () => search(command, { stdin: stdin?.readEnd, stdout: stdout.writeEnd, stderr: stderr.writeEnd });
    const pid = withUmask(command.umask, () =>
      asCommand({ ...command.identity, groups }, () => startKilledFirst(start)),
    );
    const exit = exitOf(pid);
    for (const end of [stdin?.readEnd, stdout.writeEnd, stderr.writeEnd]) if (end !== undefined) closeSync(end);
    return {
      pid,
      exit,
      stdin: stdin && writer(stdin.writeEnd),
      stdout: reader(stdout.readEnd),
      stderr: reader(stderr.readEnd),
    };
  } catch (error) {
    for (const { readEnd, writeEnd } of pipes) {
      closeSync(readEnd);
      closeSync(writeEnd);
    }
    const failure = error as NodeJS.ErrnoException;
    switch (failure.code) {
      case 'EAGAIN':
        throw new RequestError('EAGAIN', 'the sandbox is at its limit of processes: end some, or raise limits.pids');
      case 'EMFILE':
      case 'ENFILE':
      case 'ENOMEM':
        throw new RequestError(failure.code, `the command could not be started: ${failure.message}`);
      default:
        return failure;
    }
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
function search({ argv, cwd, env }: Command, stdio: Pick<Program, 'stdin' | 'stdout' | 'stderr'>): number {
  const [file = ''] = argv;
  const start = (path: string) => execute({ ...stdio, path, argv, cwd, env });
  if (file.includes('/')) return start(file);
  let denied: unknown;
  if (file !== '') {
    for (const directory of (env.PATH ?? '').split(':')) {
      const path = resolve(cwd, directory, file);
      try {
        if (statSync(path, { throwIfNoEntry: false })?.isFile()) return start(path);
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

function reader(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: false });
}

function writer(fd: number): Socket {
  const socket = new Socket({ fd, readable: false, writable: true });
  // A process that closes its input or ends makes EPIPE: no news for anyone.
  socket.on('error', () => {});
  return socket;
}
