import { openSync, readSync } from 'node:fs';

// cgroup v2 first, then v1; both count the processes that were killed for want of memory in a line `oom_kill N`.
const files = ['/sys/fs/cgroup/memory.events', '/sys/fs/cgroup/memory/memory.oom_control'];
const buffer = Buffer.alloc(1_024);
let file: number | undefined | null = null;

/** How often the kernel killed a process of the sandbox for want of memory; 0 where the kernel does not say. */
export function outOfMemoryKills(): number {
  if (file === null) file = openFirst();
  if (file === undefined) return 0;
  try {
    const text = buffer.toString('latin1', 0, readSync(file, buffer, 0, buffer.length, 0));
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function openFirst(): number | undefined {
  for (const path of files) {
    try {
      return openSync(path, 'r');
    } catch {
      // The next one.
    }
  }
  return undefined;
}
