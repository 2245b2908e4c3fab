import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import * as v from 'valibot';
import { connectUnix, withSocketPath } from '../engine/transport/unix.ts';
import { StateDirError } from './errors.ts';
import { hash } from './key.ts';
import { type NetworkPolicy, networkPolicy } from './network/policy.ts';

/** `BERTH_STATE_DIR`, else `$XDG_STATE_HOME/berth`, else `~/.local/state/berth`. */
export function defaultStateDir(env: NodeJS.ProcessEnv = process.env): string {
  if (env.BERTH_STATE_DIR) return env.BERTH_STATE_DIR;
  return join(env.XDG_STATE_HOME || join(env.HOME ?? homedir(), '.local/state'), 'berth');
}

/** Some hundred bytes are written at once; a process that takes longer was killed. */
const writePatienceMs = 60_000;

/** Between two looks whether a key is free: to make a sandbox takes some hundred milliseconds. */
const lockPollMs = 20;

/** How long is waited for another process that is told of something: longer only one takes that hangs, or was stopped. */
const tellPatienceMs = 2_000;
/** Of what one process says to another: a sandbox's id. */
const mostTold = 256;

/** A network policy, as it is kept: without its secrets. */
export interface KeptNetwork {
  /** Of this setting of it; the same policy set again has another one. */
  stamp: string;
  policy: NetworkPolicy;
}

/**
 * What host processes of one user share: who they are to the sandboxes, and which process has which sandbox.
 *
 *     identity.json             the host's id and key
 *     wire/<sandbox>/           where the sandbox-agent makes its socket
 *     processes/<process>.sock  a host process that lives; the kernel closes it however that ends. Who writes the id of a
 *                               sandbox there tells it that another network policy was set, and reads the end when it has it
 *     owners/<sandbox>          the process that has it, and whether it was finished
 *     labels/<sandbox>          of one that came from a pool: what it was asked for with
 *     networks/<sandbox>        the network policy that was set, but for 'none'
 *     keys/<hash of a key>      the process that makes or looks for the sandbox of this key now
 */
export class StateDir {
  readonly path: string;
  readonly hostId: string;
  readonly privateKey: KeyObject;
  /** Raw, in hex. */
  readonly publicKey: string;
  readonly #processId = randomBytes(4).toString('hex');
  readonly #followers = new Map<string, Set<() => Promise<void>>>();
  #alive: Server | undefined;

  private constructor(path: string, identity: Identity) {
    this.path = path;
    this.hostId = identity.hostId;
    this.privateKey = createPrivateKey(identity.privateKey);
    // The last 32 bytes of the DER form of an Ed25519 key are the key (RFC 8410).
    const der = createPublicKey(this.privateKey).export({ type: 'spki', format: 'der' });
    this.publicKey = der.subarray(-32).toString('hex');
  }

  /** @throws {StateDirError} */
  static async open(path: string): Promise<StateDir> {
    try {
      return await StateDir.#open(path);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException; // every call in there rejects with nothing but errors
      throw new StateDirError({ path, reason: code ?? message }, { cause: error });
    }
  }

  static async #open(path: string): Promise<StateDir> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await Promise.all(
      ['wire', 'processes', 'owners', 'labels', 'networks', 'keys'].map((name) =>
        mkdir(join(path, name), { recursive: true, mode: 0o700 }),
      ),
    );
    // Below it are sockets that anyone could connect to: the directory is what keeps others out.
    await chmod(path, 0o700);
    const state = new StateDir(path, await readIdentity(path));
    await state.#showAlive();
    return state;
  }

  wireDirectory(sandboxId: string): string {
    return join(this.path, 'wire', sandboxId);
  }

  /** Makes the directory for a socket. The sandbox-agent has another user than this process, and makes the socket. */
  async makeWireDirectory(sandboxId: string): Promise<string> {
    const path = this.wireDirectory(sandboxId);
    await mkdir(path, { recursive: true });
    await chmod(path, 0o777);
    return path;
  }

  /** Writes down that this process makes a sandbox, which nobody else may do meanwhile. `false`: somebody was faster. */
  async claim(sandboxId: string): Promise<boolean> {
    const owner: Owner = { process: this.#processId, finished: false };
    if (!(await writeOnce(this.path, join('owners', sandboxId), JSON.stringify(owner)))) return false;
    // Of one of that id that was forgotten in part.
    await rm(this.#networkFile(sandboxId), { force: true });
    return true;
  }

  /** Writes down that this process has the sandbox. */
  async own(sandboxId: string): Promise<void> {
    const owner: Owner = { process: this.#processId, finished: true };
    await this.#replace(this.#ownerFile(sandboxId), JSON.stringify(owner));
  }

  /** Writes down what a sandbox from a pool is called by: the engine can't add labels to a container. */
  async label(sandboxId: string, labels: Readonly<Record<string, string>>): Promise<void> {
    await writeOnce(this.path, join('labels', sandboxId), JSON.stringify(labels));
  }

  /** `undefined`: it is of no pool, or still in it. */
  async labels(sandboxId: string): Promise<Record<string, string> | undefined> {
    const text = await readFile(join(this.path, 'labels', sandboxId), 'utf8').catch(() => undefined);
    return text === undefined ? undefined : JSON.parse(text); // our own file
  }

  /**
   * Writes down which network policy a sandbox has, but for the secrets of it.
   * @returns the stamp of that. `undefined`: nothing is written down of none
   */
  async setNetwork(sandboxId: string, policy: NetworkPolicy): Promise<string | undefined> {
    if (policy === 'none') {
      await rm(this.#networkFile(sandboxId), { force: true });
      return undefined;
    }
    const kept: KeptNetwork = { stamp: randomBytes(8).toString('hex'), policy: withoutSecrets(policy) };
    await this.#replace(this.#networkFile(sandboxId), JSON.stringify(kept));
    return kept.stamp;
  }

  /** At once: who reads it and does what it says does not do that later than who has read what was written after it. */
  network(sandboxId: string): KeptNetwork | undefined {
    try {
      const kept: KeptNetwork = JSON.parse(readFileSync(this.#networkFile(sandboxId), 'utf8'));
      // One of a later version, which this one does not know, allows nothing.
      return v.is(networkPolicy, kept.policy) ? kept : undefined;
    } catch {
      return undefined; // nor does what is lost, as when the machine went down just when it was written
    }
  }

  /**
   * Calls this when somebody else has set a policy, in whichever process of this state directory.
   * @returns ends that
   */
  followNetwork(sandboxId: string, onChange: () => Promise<void>): () => void {
    const followers = this.#followers.get(sandboxId) ?? new Set();
    this.#followers.set(sandboxId, followers.add(onChange));
    return () => {
      followers.delete(onChange);
      if (followers.size === 0) this.#followers.delete(sandboxId);
    };
  }

  /**
   * Tells those who follow that a policy was set, and waits until they have it.
   * @param own - the one that has it already
   */
  async tellNetwork(sandboxId: string, own: () => Promise<void>): Promise<void> {
    const processes = (await readdir(join(this.path, 'processes'))).filter(
      (name) => name !== `${this.#processId}.sock`,
    );
    await Promise.all([
      this.#onTold(sandboxId, own),
      ...processes.map(async (name) => {
        const socket = await connectUnix(this.#processSocket(name)).catch(() => undefined); // one that has ended
        if (!socket) return;
        socket.setTimeout(tellPatienceMs, () => socket.destroy());
        socket
          .on('error', () => {})
          .resume()
          .end(sandboxId);
        await new Promise((resolve) => socket.once('close', resolve));
      }),
    ]);
  }

  async forget(sandboxId: string): Promise<void> {
    await Promise.all([
      rm(this.#networkFile(sandboxId), { force: true }),
      rm(join(this.path, 'labels', sandboxId), { force: true }),
      rm(this.#ownerFile(sandboxId), { force: true }),
      rm(this.wireDirectory(sandboxId), { recursive: true, force: true }),
    ]);
  }

  /** Forgets what a dead process has left of a sandbox, unless a live one makes it anew by now. */
  async forgetDead(sandboxId: string): Promise<void> {
    await using _lock = await this.lockId(sandboxId);
    if (!(await this.owner(sandboxId))?.isAlive) await this.forget(sandboxId);
  }

  /** For who looks at an id and then forgets it: a slower one must not take what a faster one has made. */
  lockId(sandboxId: string): Promise<AsyncDisposable> {
    return this.lock(hash(`id ${sandboxId}`));
  }

  /** For who makes forks of a sandbox, which is frozen for a moment then, and for who freezes it for longer or thaws it. */
  lockFrozen(sandboxId: string, signal?: AbortSignal): Promise<AsyncDisposable> {
    return this.lock(hash(`frozen ${sandboxId}`), signal);
  }

  /** Whether somebody has the lock of it. */
  async hasForksMade(sandboxId: string): Promise<boolean> {
    const holder = await this.#holder(join('keys', hash(`frozen ${sandboxId}`)));
    return holder !== undefined && (await this.#isAlive(holder));
  }

  /** Sandboxes that something is kept of here. */
  async known(): Promise<string[]> {
    const names = await Promise.all(
      ['owners', 'wire', 'labels', 'networks'].map((name) => readdir(join(this.path, name))),
    );
    return [...new Set(names.flat())];
  }

  /** `undefined`: nobody wrote down that he has it. */
  async owner(sandboxId: string): Promise<{ isAlive: boolean; finished: boolean } | undefined> {
    const text = await readFile(this.#ownerFile(sandboxId), 'utf8').catch(() => undefined);
    if (!text) return undefined;
    const owner: Owner = JSON.parse(text); // our own file
    return { isAlive: await this.#isAlive(owner.process), finished: owner.finished };
  }

  /** Waits until nobody else has this key, and keeps others from it until it is disposed of. */
  async lock(keyHash: string, signal?: AbortSignal): Promise<AsyncDisposable> {
    const name = join('keys', keyHash);
    while (!(await writeOnce(this.path, name, this.#processId))) {
      if (!(await this.#takeFromDead(name))) await wait(lockPollMs, undefined, signal && { signal });
    }
    return { [Symbol.asyncDispose]: () => rm(join(this.path, name), { force: true }) };
  }

  /** Removes the sockets of processes that ended without doing so, the keys that they had, and what they had half written. */
  async sweepProcesses(): Promise<void> {
    for (const name of await readdir(this.path)) {
      const path = join(this.path, name);
      const writtenAt = name.endsWith('.part') ? (await stat(path).catch(() => undefined))?.mtimeMs : undefined;
      if (writtenAt !== undefined && Date.now() - writtenAt > writePatienceMs) await rm(path, { force: true });
    }
    for (const name of await readdir(join(this.path, 'keys'))) {
      await this.#takeFromDead(join('keys', name));
    }
    for (const name of await readdir(join(this.path, 'processes'))) {
      if (!(await this.#isAlive(name.replace(/\.sock$/, '')))) await rm(this.#processSocket(name), { force: true });
    }
  }

  close(): void {
    this.#alive?.close(); // removes the socket too
  }

  /** Frees a key whose holder has ended. @returns whether it was so */
  async #takeFromDead(name: string): Promise<boolean> {
    const holder = await this.#holder(name);
    if (holder === undefined || (await this.#isAlive(holder))) return false;
    // One of those who see that at a time: what a slower one removed could be the lock of a faster one by now.
    await using _turn = await this.lock(`${basename(name)}.${holder}`);
    if ((await this.#holder(name)) === holder) await rm(join(this.path, name), { force: true });
    return true;
  }

  /** `undefined`: nobody has it. */
  #holder(name: string): Promise<string | undefined> {
    return readFile(join(this.path, name), 'utf8').catch(() => undefined);
  }

  #ownerFile(sandboxId: string): string {
    return join(this.path, 'owners', sandboxId);
  }

  #networkFile(sandboxId: string): string {
    return join(this.path, 'networks', sandboxId);
  }

  /** Writes a file whole: others may be reading it. */
  async #replace(path: string, text: string): Promise<void> {
    const part = join(this.path, `${randomBytes(8).toString('hex')}.part`);
    await writeFile(part, text, { mode: 0o600 });
    await rename(part, path);
  }

  /** Another process says something, or only looks whether this one lives. */
  async #hear(socket: Socket): Promise<void> {
    socket.setTimeout(tellPatienceMs, () => socket.destroy());
    let sandboxId = '';
    // Else it is destroyed at the end, and who waits for the answer takes that for it.
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      sandboxId += chunk;
      if (sandboxId.length > mostTold) return void socket.destroy();
    }
    await this.#onTold(sandboxId);
    socket.end();
  }

  /** A follower that fails has said so to those whom that concerns. */
  async #onTold(sandboxId: string, except?: () => Promise<void>): Promise<void> {
    const followers = [...(this.#followers.get(sandboxId) ?? [])].filter((one) => one !== except);
    await Promise.allSettled(followers.map((onChange) => onChange()));
  }

  #processSocket(name: string): string {
    return join(this.path, 'processes', name);
  }

  async #isAlive(processId: string): Promise<boolean> {
    if (processId === this.#processId) return true;
    return connectUnix(this.#processSocket(`${processId}.sock`)).then(
      (socket) => {
        socket.destroy();
        return true;
      },
      () => false,
    );
  }

  #showAlive(): Promise<void> {
    return withSocketPath(
      this.#processSocket(`${this.#processId}.sock`),
      (path) =>
        new Promise((resolve, reject) => {
          this.#alive = createServer({ allowHalfOpen: true }, (socket) => {
            // One that broke is destroyed by then.
            void this.#hear(socket).catch(() => {});
          }).unref();
          this.#alive.once('error', reject);
          this.#alive.listen(path, resolve);
        }),
    );
  }
}

/** By name, so that nothing is kept that is new and may be secret. */
function withoutSecrets(policy: NetworkPolicy): NetworkPolicy {
  if (typeof policy === 'string') return policy;
  const { allow, maxConnections, maxBytes } = policy;
  return {
    allow,
    ...(maxConnections !== undefined && { maxConnections }),
    ...(maxBytes !== undefined && { maxBytes }),
  };
}

interface Owner {
  process: string;
  finished: boolean;
}

interface Identity {
  hostId: string;
  /** PEM. */
  privateKey: string;
}

async function readIdentity(directory: string): Promise<Identity> {
  const path = join(directory, 'identity.json');
  for (;;) {
    try {
      return JSON.parse(await readFile(path, 'utf8')); // our own file
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
    const identity: Identity = {
      hostId: randomBytes(8).toString('hex'),
      privateKey: generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
    await writeOnce(directory, 'identity.json', JSON.stringify(identity));
  }
}

/** Makes a file, whole; `false` when there is one. */
async function writeOnce(directory: string, name: string, text: string): Promise<boolean> {
  const part = join(directory, `${randomBytes(8).toString('hex')}.part`);
  await writeFile(part, text, { mode: 0o600, flag: 'wx' });
  try {
    // Unlike a rename, a link does not replace what another process made meanwhile.
    await link(part, join(directory, name));
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(part);
  }
}
