import { readFileSync } from 'node:fs';
import { reap } from './kernel.ts';

/**
 * Takes the exits of orphans, which the kernel gives to PID 1. libuv waits for its own children by their ids and must
 * find them unreaped, so those in `own` are left alone.
 */
export function reapOrphans(own: ReadonlySet<number>): void {
  let scheduled = false;
  process.on('SIGCHLD', () => {
    if (scheduled) return;
    scheduled = true;
    // Every command that ends sends this signal, most orphans come in crowds, and a zombie costs next to nothing.
    setTimeout(() => {
      scheduled = false;
      for (const pid of children()) if (!own.has(pid)) reap(pid);
    }, 50);
  });
}

function children(): number[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}
