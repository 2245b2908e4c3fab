import { join } from 'node:path';
import { execa } from 'execa';

const checkout = join(import.meta.dirname, '../../..');

/**
 * Runs a program in a process of its own. It has `SqliteStore`, the `path`, and `start()`: says that it is ready and
 * waits for a line of its input.
 */
export function elsewhere(path: string, body: string) {
  const script = `
    import { once } from 'node:events';
    import { writeSync } from 'node:fs';
    const { SqliteStore } = await import('${checkout}/src/journal/sqlite/sqlite-store.ts');
    const path = ${JSON.stringify(path)};
    const say = (value) => writeSync(1, JSON.stringify(value) + '\\n');
    const start = async () => {
      say('ready');
      await once(process.stdin, 'data');
      process.stdin.destroy();
    };
    ${body}`;
  return execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { cwd: checkout, reject: false });
}

/** Runs the program in several processes, which go on together. @returns the last line of each */
export async function together(count: number, path: string, body: string): Promise<unknown[]> {
  const processes = Array.from({ length: count }, () => elsewhere(path, body));
  const ready = processes.map((one) => new Promise((resolve) => one.stdout.once('data', resolve)));
  await Promise.race([Promise.all(ready), Promise.all(processes)]); // the second only when they fail
  for (const one of processes) one.stdin.end('go\n');
  const ended = await Promise.all(processes);
  return ended.map(({ stdout, stderr }) => {
    const last = stdout.split('\n').at(-1);
    if (!last || last === '"ready"') throw new Error(stderr);
    return JSON.parse(last) as unknown;
  });
}
