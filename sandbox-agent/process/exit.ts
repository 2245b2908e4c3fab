import { type Exit, takeExit } from '../kernel.ts';

const waiting = new Map<number, (exit: Exit) => void>();
/** Before others get their turn: a crowd of orphans that die without end must not keep it. */
const maxAtOnce = 1_000;

/**
 * Takes the exits of all children from now on: those of commands, and those of orphans, which the kernel gives to
 * PID 1.
 */
export function takeExits(): void {
  process.on('SIGCHLD', takeAll);
}

function takeAll(): void {
  for (let taken = 0; taken < maxAtOnce; taken++) {
    const exit = takeExit();
    if (!exit) return;
    waiting.get(exit.pid)?.(exit);
    waiting.delete(exit.pid);
  }
  setImmediate(takeAll);
}

/** How a child ends. To be asked for in the turn of the event loop that started it: its exit is taken in a later one. */
export function exitOf(pid: number): Promise<Exit> {
  return new Promise((resolve) => waiting.set(pid, resolve));
}
