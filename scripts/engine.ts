import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import Docker from 'dockerode';
import { execa } from 'execa';
import { BaseImageUnavailableError, ensureBaseImage } from '../src/engine/docker/base-image.ts';
import { findProgram, type MachineSystem, readSystem } from '../src/engine/remedy.ts';
import { EngineUnreachableError, type FoundEngine, findEngine } from '../src/engine/socket.ts';
import type { Progress } from './progress.js';

/** Finds an engine, or installs and starts one where this process may; then makes the base image if it is not there. */
export async function prepareEngine(progress: Progress, signal: AbortSignal): Promise<FoundEngine & { image: string }> {
  const engine = await findOrStart(progress, signal);
  const docker = new Docker({ ...engine.address });
  let announced = false;
  const onProgress = (step: string) => {
    if (!announced) progress.step('Making the base image of the sandboxes');
    announced = true;
    progress.detail(step);
  };
  try {
    return { ...engine, image: await ensureBaseImage(docker, { onProgress, signal }) };
  } catch (error) {
    const lacksTool = error instanceof BaseImageUnavailableError && error.meta.missing === 'mmdebstrap';
    if (!lacksTool || !(await canInstall(await readSystem()))) throw error;
  }
  await install('mmdebstrap, which makes images of Debian packages', ['mmdebstrap'], progress, signal);
  return { ...engine, image: await ensureBaseImage(docker, { onProgress, signal }) };
}

async function findOrStart(progress: Progress, signal: AbortSignal): Promise<FoundEngine> {
  try {
    return await findEngine({ signal });
  } catch (error) {
    if (!(error instanceof EngineUnreachableError)) throw error;
    const system = await readSystem();
    // Without commands the engine is somebody's choice, which is theirs to mend.
    const mayMend = system.isRoot && system.platform === 'linux' && error.meta.commands.length > 0;
    if (!mayMend || (system.dockerd === undefined && !(await canInstall(system)))) throw error;
    if (system.dockerd === undefined) {
      // The kernel's AppArmor, where it is on, refuses containers whose profile no apparmor_parser can load.
      const appArmor = (await readFile('/sys/module/apparmor/parameters/enabled', 'utf8').catch(() => '')).startsWith(
        'Y',
      );
      const packages = ['docker.io', 'ca-certificates', 'iptables', ...(appArmor ? ['apparmor'] : [])];
      await install('Docker, as no container engine was found', packages, progress, signal);
    }
    return await startDocker(progress, signal);
  }
}

async function canInstall({ isRoot, distribution }: MachineSystem): Promise<boolean> {
  const isDebian = distribution.includes('debian') || distribution.includes('ubuntu');
  return isRoot && isDebian && (await findProgram('apt-get')) !== undefined;
}

/** It is not ended half way by `signal`: dpkg would leave the machine in need of repair. */
async function install(what: string, packages: string[], progress: Progress, signal: AbortSignal): Promise<void> {
  progress.step(`Installing ${what} (apt-get install ${packages.join(' ')})`);
  const options = ['-q', '-y', '-o', 'DPkg::Lock::Timeout=120', '-o', 'APT::Status-Fd=3'];
  for (const args of [['update'], ['install', '--no-install-recommends', ...packages]]) {
    signal.throwIfAborted();
    const apt = execa('apt-get', [...options, ...args], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      all: true,
      reject: false,
      lines: { fd3: true },
    });
    for await (const line of apt.iterable({ from: 'fd3' })) {
      // dlstatus:NUMBER:PERCENT:TEXT and pmstatus:PACKAGE:PERCENT:TEXT
      const [, kind, percent, text] = line.match(/^(dl|pm)status:[^:]*:([\d.]+):(.*)$/) ?? [];
      if (kind && percent && text) progress.detail(text, (Number(percent) / 100 + (kind === 'pm' ? 1 : 0)) / 2);
    }
    const { exitCode, all } = await apt;
    if (exitCode !== 0) throw new Error(`apt-get ${args[0]} failed with code ${exitCode}:\n${lastLines(all)}`);
  }
}

const daemonLog = '/var/log/berth-dockerd.log';

/** By the system's own means where they work; a machine without an init, such as a container, starts dockerd itself. */
async function startDocker(progress: Progress, signal: AbortSignal): Promise<FoundEngine> {
  const system = await readSystem();
  progress.step('Starting Docker');
  if (system.runsSystemd) {
    await execa('systemctl', ['start', 'docker']);
    return await untilItAnswers(signal, () => true);
  }
  if ((await findProgram('service')) && (await exists('/etc/init.d/docker'))) {
    const service = await execa('service', ['docker', 'start'], { reject: false, all: true, stdin: 'ignore' });
    if (!service.failed) return await untilItAnswers(signal, () => true);
    progress.detail(`service docker start: ${lastLines(service.all).split('\n').at(-1)}; starting dockerd itself`);
  }
  const log = openSync(daemonLog, 'w');
  const dockerd = spawn(system.dockerd ?? 'dockerd', [], { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let running = true;
  dockerd.on('exit', () => (running = false)).on('error', () => (running = false));
  dockerd.unref();
  try {
    const engine = await untilItAnswers(signal, () => running);
    progress.detail(`dockerd runs as process ${dockerd.pid}, its log is ${daemonLog}`);
    return engine;
  } catch (error) {
    if (running) dockerd.kill();
    if (!(error instanceof EngineUnreachableError)) throw error;
    const cause = lastLines(await readFile(daemonLog, 'utf8'));
    throw new Error(`dockerd was started but does not answer. The end of ${daemonLog}:\n${cause}`, { cause: error });
  }
}

const startMs = 60_000;

async function untilItAnswers(signal: AbortSignal, isRunning: () => boolean): Promise<FoundEngine> {
  const deadline = performance.now() + startMs;
  for (;;) {
    try {
      return await findEngine({ signal });
    } catch (error) {
      if (!isRunning() || performance.now() > deadline) throw error;
    }
    // Nothing tells when a daemon begins to listen.
    await delay(100, undefined, { signal });
  }
}

function lastLines(text: string | undefined): string {
  return (text ?? '').trim().split('\n').slice(-15).join('\n');
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
