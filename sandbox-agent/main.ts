import { chownSync, readdirSync, rmSync, stat, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import type { Assignment } from '../src/protocol/assign.ts';
import { type EndReason, endCodes, stopGraceMs } from '../src/protocol/lifetime.ts';
import { checkpointsName, keptDirectory, partsName, socketName, wireDirectory } from '../src/protocol/socket.ts';
import { bridge } from './bridge.ts';
import { type Sandbox, serve } from './connection.ts';
import { RequestError } from './errors.ts';
import { Checkpoints } from './fs/checkpoint/checkpoints.ts';
import { makeDirectories } from './fs/directory.ts';
import { parts } from './fs/part.ts';
import { hasCode } from './fs/path.ts';
import { asRoot, findIdentity, type Identity, restAs } from './identity.ts';
import { Lifetime } from './lifetime.ts';
import { nameLoopback } from './network/names.ts';
import { Network } from './network/network.ts';
import { takeExits } from './process/exit.ts';
import { KeptDirectory } from './process/kept.ts';
import { Processes } from './process/processes.ts';
import { liveProcesses, signalAll } from './process/tree.ts';
import { randomHex } from './random.ts';
import { readingAtOnce } from './reading-at-once.ts';
import { Sessions } from './session/sessions.ts';
import { setting, settings } from './settings.ts';

/** What was killed is dead at once, unless it hangs in the kernel. */
const settleMs = 1_000;

/** A shell that is just about to read does not notice that it is hung up, until it is told again. */
const hangUpMs = 500;

const socketPath = `${wireDirectory}/${socketName}`;

switch (process.argv[2]) {
  case 'bridge':
    void bridge(socketPath);
    break;
  case 'compile':
    break; // by now all of it is loaded, which is what Node keeps in its cache
  default:
    try {
      start();
    } catch (error) {
      // Node itself would print the line of the bundle that it came from, which is most of the bundle.
      console.error(error instanceof RequestError ? error.message : error);
      process.exit(1);
    }
}

function start(): void {
  // PID 1 gets no signal that it does not listen for, but Node listens for some itself, to exit. The end comes over the
  // wire, or from the engine as SIGKILL: a command that runs as root must not be able to ask for it.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2'] as const) process.on(signal, () => {});
  takeExits();
  process.umask(0o022);
  // Starts the threads that work on files. Node would start them when the first is needed, and abort where the sandbox is
  // at its limit of processes by then.
  stat('/', () => {});

  const kept = new KeptDirectory(keptDirectory);
  parts.open(`${keptDirectory}/${partsName}`);
  const checkpoints = new Checkpoints(`${keptDirectory}/${checkpointsName}`);
  const assigned = kept.readAssignment();
  const { user, cwd, env, ...times } = settings(assigned);
  const identity = findIdentity(user);
  const isThere = makeWorkingDirectory(cwd, identity);
  nameLoopback();
  const network = new Network();
  let isFree = setting('BERTH_POOL') !== '' && !assigned;
  const sandbox: Sandbox = {
    id: setting('BERTH_SANDBOX'),
    version: setting('BERTH_VERSION'),
    publicKey: setting('BERTH_PUBLIC_KEY'),
    welcome: { boot: randomHex(8), ...shown(identity), cwd },
    connections: new Map(),
    sessions: new Sessions(identity),
    processes: new Processes(env, cwd, kept, network),
    network,
    checkpoints,
    lifetime: new Lifetime(times, (reason) => void end(sandbox, reason)),
    ending: false,
    assign: (assignment) => {
      if (!isFree) throw new RequestError('EEXIST', 'the sandbox is nobody’s to assign');
      assign(sandbox, kept, assignment);
      isFree = false;
    },
    shutdown: () => void end(sandbox, 'stopped'),
  };
  const start = listen(sandbox);
  restAs(identity);
  if (!isThere) makeOwnWorkingDirectory(cwd);
  void checkpoints.recover().finally(() => {
    parts.removeLeft();
    start();
  });
}

/** As if the sandbox had been started with this; its times count from now on. */
function assign(sandbox: Sandbox, kept: KeptDirectory, assignment: Assignment): void {
  const { user, cwd, env, ...times } = settings(assignment);
  const identity = findIdentity(user);
  process.seteuid?.(0); // nothing else is under way in it
  let isThere = true;
  try {
    isThere = makeWorkingDirectory(cwd, identity);
    kept.writeAssignment(assignment);
  } finally {
    restAs(identity);
  }
  if (!isThere) makeOwnWorkingDirectory(cwd);
  sandbox.welcome = { ...sandbox.welcome, ...shown(identity), cwd };
  sandbox.sessions.assign(identity);
  sandbox.processes.assign(env, cwd);
  sandbox.lifetime = new Lifetime(times, (reason) => void end(sandbox, reason));
}

function shown({ user, uid, gid, home }: Identity) {
  return { user, uid, gid, home };
}

/**
 * The image need not have it, or has it for another user, and a volume that is new is root's: the commands' user is to
 * own it. What holds something is left as it is, and a directory of the host's to whoever has it there.
 * @returns whether it is there: in a directory of somebody else root can make nothing here
 */
function makeWorkingDirectory(path: string, { uid, gid }: Identity): boolean {
  try {
    const made = makeDirectories(path);
    if (made !== undefined) {
      // `made` is the first directory of the path that was missing.
      for (let at = path; at.length >= made.length; at = at.slice(0, at.lastIndexOf('/'))) chownSync(at, uid, gid);
      return true;
    }
    const { uid: owner, dev } = statSync(path);
    const isOfImage = dev === statSync('/').dev;
    if ((owner === 0 || isOfImage) && readdirSync(path).length === 0) chownSync(path, uid, gid);
  } catch (error) {
    if (hasCode(error, 'EACCES')) return false;
    tellOfWorkingDirectory(path, error);
  }
  return true;
}

/** In a directory of the commands' user. To be called at rest, with his rights. */
function makeOwnWorkingDirectory(path: string): void {
  try {
    makeDirectories(path);
  } catch (error) {
    tellOfWorkingDirectory(path, error);
  }
}

/** Commands that name another directory work; those that do not say what is missing. */
function tellOfWorkingDirectory(path: string, error: unknown): void {
  console.error(`The working directory ${path} can't be made:`, error);
}

/** @returns lets in who has come; who comes before has to wait */
function listen(sandbox: Sandbox): () => void {
  let start = () => {};
  const started = new Promise<void>((resolve) => {
    start = resolve;
  });
  const server = createServer({ pauseOnConnect: true }, (accepted) => {
    accepted.on('error', () => {}); // of one that does not wait
    void started.then(() => serve(readingAtOnce(accepted), sandbox));
  });
  // A socket of an earlier start of this container.
  rmSync(socketPath, { force: true });
  // The host need not have a user of the sandbox.
  server.listen({ path: socketPath, readableAll: true, writableAll: true });
  return start;
}

/** Asks every process of a command to end, kills what is left after the grace period, and ends the container. */
async function end(sandbox: Sandbox, reason: EndReason): Promise<never> {
  if (sandbox.ending) return new Promise(() => {});
  sandbox.ending = true;
  const pids = [...new Set([...liveProcesses().values()].flat())];
  signalAll(pids, constants.signals.SIGTERM);
  sandbox.processes.hangUpTerminals(); // a shell that a person types to ignores SIGTERM
  signalAll(pids, constants.signals.SIGCONT); // what is stopped could not end by itself
  const since = performance.now();
  for (let hungUpAt = since; performance.now() - since < stopGraceMs && liveProcesses().size > 0; ) {
    await wait(10);
    if (performance.now() - hungUpAt < hangUpMs) continue;
    hungUpAt = performance.now();
    sandbox.processes.hangUpTerminals();
  }
  asRoot(() => {
    try {
      process.kill(-1, 'SIGKILL');
    } catch {
      // There is none.
    }
  });
  // How each of them ended is kept for later.
  await Promise.race([sandbox.processes.settled(), wait(settleMs)]);
  process.exit(endCodes[reason]);
}
