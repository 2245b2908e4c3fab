import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Exit, takeExit } from '../kernel.ts';

const waiting = new Map<number, (exit: Exit) => void>();
/**
 * A crowd of orphans that die without end must not keep the sandbox-agent busy: the kernel lets one who rests often run at
 * once when it wakes, and makes one who is always busy wait for its turn among a thousand others.
 */
export const maxBusyMs = 1;
export const restMs = 2;

/**
 * Takes the exits of all children from now on: those of commands, and those of orphans, which the kernel gives to
 * PID 1.
 */
export function takeExits(): void {
  process.on('SIGCHLD', takeAll);
}

let rest: NodeJS.Timeout | undefined;

function takeAll(): void {
  if (rest) return;
  for (const since = performance.now(); performance.now() - since < maxBusyMs; ) {
    const exit = takeExit();
    if (!exit) return;
    waiting.get(exit.pid)?.(exit);
    waiting.delete(exit.pid);
  }
  rest ??= setTimeout(() => {
    rest = undefined;
    takeAll();
  }, restMs);
}

let thisTurn: Promise<void> | undefined;

/**
 * Whether a child that was started in this turn of the event loop has ended by the end of it, as most of a crowd that is
 * started together have. After `exitOf`.
 */
export async function endsInThisTurn(pid: number): Promise<boolean> {
  thisTurn ??= nextTurn().then(() => {
    thisTurn = undefined;
    takeAll();
  });
  await thisTurn;
  return !waiting.has(pid);
}

/** How a child ends. To be asked for in the turn of the event loop that started it: its exit is taken in a later one. */
export function exitOf(pid: number): Promise<Exit> {
  return new Promise((resolve) => waiting.set(pid, resolve));
}
