import { constants } from 'node:fs';
import { access, readFile, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type Docker from 'dockerode';
import { baseImageTag } from '../../engine/docker/base-image.ts';
import { reasonOf, statusOf } from '../../engine/docker/failure.ts';
import { type EngineTraits, readTraits } from '../../engine/docker/traits.ts';
import { type EngineAddress, EngineUnreachableError } from '../../engine/socket.ts';
import { pickTransport } from '../../engine/transport/pick.ts';
import { defaultStateDir } from '../../sandbox/state-dir.ts';
import { openEngine } from '../engine.ts';
import { engineFindings, type Finding, spaceFindings, watchFindings } from '../engine-findings.ts';
import { exitCodes } from '../failure.ts';
import { printJson } from '../output.ts';
import { harmlessLine } from '../print/harmless.ts';
import { openScreen } from '../print/screen.ts';

/** Says what is missing, and how to mend it. Looks only: it makes nothing, and nothing that it asks for waits long. */
export async function doctor({ json }: { json?: boolean }): Promise<number> {
  const [node, engine, bundle, state] = await Promise.all([
    checkNode(),
    checkEngine(),
    checkBundle(),
    checkStateDirectory(),
  ]);
  const findings = [node, ...engine.findings, bundle, state];
  if (json) printJson({ ok: findings.every(({ ok }) => ok), findings });
  else print(findings);
  if (!engine.answers) return exitCodes.engine;
  return findings.every(({ ok }) => ok) ? 0 : exitCodes.failed;
}

function print(findings: readonly Finding[]): void {
  const screen = openScreen(process.stdout);
  const { red, green, yellow, bold } = screen.style;
  for (const { name, ok, warning, detail, mend = [] } of findings) {
    const sign = warning ? yellow('!') : ok ? green('✓') : red('✗');
    screen.print([`${sign} ${name.padEnd(17)}${harmlessLine(detail)}`]);
    for (const command of mend) screen.print([`    ${bold(command)}`]);
  }
}

async function checkNode(): Promise<Finding> {
  const { engines } = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')); // our own
  const wanted: string = engines.node;
  const found = process.versions.node;
  const ok = number(found) >= number(wanted.replace('>=', ''));
  if (ok) return { name: 'Node', ok, detail: found };
  return { name: 'Node', ok, detail: `${found}; Berth needs ${wanted}`, mend: ['npm install --global n && n 22'] };
}

function number(version: string): number {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  return major * 1e6 + minor * 1e3 + patch;
}

async function checkEngine(): Promise<{ answers: boolean; findings: Finding[] }> {
  try {
    const { docker, address, url, source, version, apiVersion } = await openEngine();
    const [traits, image] = await Promise.all([readTraits(docker), checkImage(docker)]);
    const kind = `${traits.podman ? 'Podman ' : ''}${version}${traits.isRootless ? ', rootless' : ''}`;
    const found = { name: 'container engine', ok: true, detail: `${kind} (API ${apiVersion}) at ${url}, ${source}` };
    const machine = await checkMachine(address, traits);
    return { answers: true, findings: [found, ...engineFindings(traits), ...machine, image] };
  } catch (error) {
    if (!(error instanceof EngineUnreachableError)) throw error;
    const { commands } = error.meta;
    // The text ends with the commands, which stand in lines of their own here.
    const detail = error.message.replace(/ Run: .*$/, '');
    const found = { name: 'container engine', ok: false, detail, ...(commands.length > 0 && { mend: [...commands] }) };
    return { answers: false, findings: [found] };
  }
}

/** What its machine has for sandboxes, where that is this one. */
async function checkMachine(
  address: EngineAddress,
  { kernelVersion, rootDirectory }: EngineTraits,
): Promise<Finding[]> {
  const isLocalSocket = 'socketPath' in address;
  if (pickTransport({ isLocalSocket, kernelVersion }) !== 'unix') return [];
  const inotify = (name: string) => readFile(`/proc/sys/fs/inotify/${name}`, 'utf8').then(Number, () => Number.NaN);
  const [space, watches, instances] = await Promise.all([
    // It is not there for one who is in a container himself.
    rootDirectory === undefined ? undefined : statfs(rootDirectory).catch(() => undefined),
    inotify('max_user_watches'),
    inotify('max_user_instances'),
  ]);
  return [
    ...(space && rootDirectory !== undefined ? spaceFindings(rootDirectory, space.bavail * space.bsize) : []),
    ...watchFindings({ watches, instances }),
  ];
}

async function checkImage(docker: Docker): Promise<Finding> {
  const own = process.env.BERTH_IMAGE;
  const image = own || (await baseImageTag());
  const name = own ? 'image' : 'base image';
  try {
    await docker.getImage(image).inspect();
    return { name, ok: true, detail: image };
  } catch (error) {
    const missing = statusOf(error) === 404;
    const detail = missing ? `the engine has no ${image}` : reasonOf(error);
    return { name, ok: false, detail, ...(missing && { mend: [own ? `docker pull ${own}` : 'berth image build'] }) };
  }
}

async function checkBundle(): Promise<Finding> {
  const path = fileURLToPath(new URL('../../../dist/sandbox-agent.cjs', import.meta.url));
  const name = 'sandbox-agent';
  const ok = await stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
  return ok ? { name, ok, detail: path } : { name, ok, detail: `${path} is not there`, mend: ['npm run build'] };
}

async function checkStateDirectory(): Promise<Finding> {
  const path = defaultStateDir();
  const name = 'state directory';
  // What is not there yet is made at first use: then its nearest parent must let us.
  let existing = path;
  while (existing !== dirname(existing) && !(await may(existing, constants.F_OK))) existing = dirname(existing);
  const ok = await may(existing, constants.W_OK | constants.X_OK);
  if (ok) return { name, ok, detail: existing === path ? path : `${path}, made at first use` };
  return {
    name,
    ok,
    detail: `this user may not write to ${existing}`,
    // Whose the directories above it are is not for Berth to say.
    mend: [...(existing === path ? [`sudo chown -R "$(id -u)" ${path}`] : []), 'export BERTH_STATE_DIR=DIRECTORY'],
  };
}

function may(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
