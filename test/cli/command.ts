import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';
import { execa } from 'execa';
import { test as base } from 'vitest';
import { findEngine } from '../../src/engine/socket.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** With it, `berth` is the package as it is built also in files that are elsewhere. */
const tsconfig = fileURLToPath(new URL('fixtures/tsconfig.json', import.meta.url));

/** `berth` as it is built. Node 20 needs tsx for a workflow in TypeScript, and takes twice as long with it. */
export function commandLine(args: readonly string[]): [program: string, ...args: string[]] {
  const loader = args[0] === 'run' && /\.m?ts$/.test(args[1] ?? '') ? ['--import', 'tsx'] : [];
  return [process.execPath, ...loader, 'dist/cli/main.js', ...args];
}

/** Starts `berth` in a process of its own. */
function start(args: readonly string[], env: Record<string, string>) {
  const [program, ...rest] = commandLine(args);
  return execa(program, rest, {
    cwd: root,
    stdin: 'ignore',
    reject: false,
    env: { TSX_TSCONFIG_PATH: tsconfig, ...env },
  });
}

export interface Cli {
  run(args: readonly string[], env?: Record<string, string>): ReturnType<typeof start>;
  stateDir: string;
  /** Names of the containers of this state directory, also of those that are stopped. */
  containers(): Promise<string[]>;
}

/** `berth` is the command with a state directory of its own, which must own nothing when the test is over. */
export const test = base.extend<{ berth: Cli }>({
  berth: async ({ task }, use) => {
    const stateDir = await mkdtemp(join(tmpdir(), 'berth-cli-'));
    const run: Cli['run'] = (args, env) => start(args, { BERTH_STATE_DIR: stateDir, ...env });
    await use({ run, stateDir, containers: () => containersOf(stateDir) });
    const left = await containersOf(stateDir);
    for (const name of left) await removeContainer(name);
    await rm(stateDir, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`${task.name}: left behind ${left.join(', ')}`);
  },
});

export async function openDocker(): Promise<Docker> {
  const { address } = await findEngine();
  return new Docker({ host: undefined, ...address });
}

async function containersOf(stateDir: string): Promise<string[]> {
  const identity: { hostId: string } | undefined = await readFile(join(stateDir, 'identity.json'), 'utf8').then(
    JSON.parse,
    () => undefined, // nothing was ever made
  );
  if (identity === undefined) return [];
  const docker = await openDocker();
  const found = await docker.listContainers({
    all: true,
    filters: JSON.stringify({ label: [`berth.host=${identity.hostId}`] }),
  });
  return found.map(({ Id, Names }) => Names[0]?.slice(1) ?? Id);
}

async function removeContainer(name: string): Promise<void> {
  await (await openDocker()).getContainer(name).remove({ force: true, v: true });
}

/** The lines of JSON that a command printed. Throws when one of them is something else. */
export function jsonLines(stdout: string): Record<string, unknown>[] {
  return stdout.split('\n').map((line) => JSON.parse(line));
}
