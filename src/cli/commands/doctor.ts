import { constants } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type Docker from 'dockerode';
import { baseImageTag } from '../../engine/docker/base-image.ts';
import { reasonOf, statusOf } from '../../engine/docker/failure.ts';
import { EngineUnreachableError } from '../../engine/socket.ts';
import { defaultStateDir } from '../../sandbox/state-dir.ts';
import { openEngine } from '../engine.ts';
import { exitCodes } from '../failure.ts';
import { printJson } from '../output.ts';
import { harmlessLine } from '../print/harmless.ts';
import { openScreen } from '../print/screen.ts';

/** One thing that Berth needs. `mend`: the commands that bring it, where it is missing. */
interface Finding {
  name: string;
  ok: boolean;
  detail: string;
  mend?: string[];
}

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
  const { red, green, bold } = screen.style;
  for (const { name, ok, detail, mend = [] } of findings) {
    screen.print([`${ok ? green('✓') : red('✗')} ${name.padEnd(17)}${harmlessLine(detail)}`]);
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
    const { docker, url, source, version, apiVersion } = await openEngine();
    const detail = `${version} (API ${apiVersion}) at ${url}, ${source}`;
    const [limits, image] = await Promise.all([checkLimits(docker), checkImage(docker)]);
    return { answers: true, findings: [{ name: 'container engine', ok: true, detail }, ...limits, image] };
  } catch (error) {
    if (!(error instanceof EngineUnreachableError)) throw error;
    const { commands } = error.meta;
    // The text ends with the commands, which stand in lines of their own here.
    const detail = error.message.replace(/ Run: .*$/, '');
    const found = { name: 'container engine', ok: false, detail, ...(commands.length > 0 && { mend: [...commands] }) };
    return { answers: false, findings: [found] };
  }
}

/** A note, where the engine takes limits and does not apply them: rootless Docker on cgroup v1, say. */
async function checkLimits(docker: Docker): Promise<Finding[]> {
  const info: { MemoryLimit?: boolean; CpuCfsQuota?: boolean; PidsLimit?: boolean; CgroupVersion?: string } =
    await docker.info();
  const missing = [
    ...(info.MemoryLimit === false ? ['memory'] : []),
    ...(info.CpuCfsQuota === false ? ['CPU'] : []),
    ...(info.PidsLimit === false ? ['processes'] : []),
  ];
  if (missing.length === 0) return [];
  const detail = `this engine (cgroup v${info.CgroupVersion ?? '?'}) limits no ${missing.join(', ')} of a sandbox`;
  return [{ name: 'limits', ok: true, detail }];
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
