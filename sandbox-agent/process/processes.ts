import { existsSync } from 'node:fs';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import type { ProcessEnd, ProcessStart } from '../../src/protocol/process.ts';
import type { PtyOpen } from '../../src/protocol/pty.ts';
import type { Environment } from '../../src/protocol/values.ts';
import { commandEnvironment } from '../environment.ts';
import { RequestError } from '../errors.ts';
import { RecordWriter } from '../fs/records.ts';
import { findIdentity } from '../identity.ts';
import type { Network } from '../network/network.ts';
import { sha256 } from '../openssl.ts';
import { randomHex } from '../random.ts';
import type { Session } from '../session/sessions.ts';
import type { KeptDirectory } from './kept.ts';
import { type Attachment, sendOutput } from './output.ts';
import { type Command, SandboxProcess } from './process.ts';
import { liveProcesses, newTree } from './tree.ts';

/**
 * Ended processes whose output and end are kept for those who attach late, or ask again with the same key; the oldest
 * goes first, also when all outputs together take too much of the disk. One more has some KiB of memory at most.
 */
const keptEnded = 1_024;
/** As many are dropped together: to drop one is to look whether it has left anything running, through all of /proc. */
const droppedTogether = 64;

/** What a terminal is that nobody says more of; TERM of the image, the session or the call comes first. */
const terminalVariables: Environment = [['TERM', 'xterm-256color']];

/** What only one of the two ways to start a process can ask for. */
type Further = Pick<Command, 'key' | 'asked' | 'hasStdin' | 'terminal'> & { detached: boolean };

/** What a command is asked to be; the streams to follow it by may be others. */
type Asked = Pick<PtyOpen, 'argv' | 'env' | 'cwd' | 'user' | 'umask' | 'timeoutMs'>;

/** Every process that was started over the wire and whose output is still kept. */
export class Processes {
  readonly #byId = new Map<string, SandboxProcess>();
  /** By session and key; the promise, so that the same key at the same time starts it once. */
  readonly #byKey = new Map<string, Promise<SandboxProcess>>();
  #sandboxEnvironment: Map<string, string>;
  #cwd: string;
  readonly #kept: KeptDirectory;
  readonly #network: Network;

  constructor(sandboxEnvironment: Map<string, string>, cwd: string, kept: KeptDirectory, network: Network) {
    this.#sandboxEnvironment = sandboxEnvironment;
    this.#cwd = cwd;
    this.#kept = kept;
    this.#network = network;
    for (const found of kept.restore()) {
      const one = SandboxProcess.restore(found, kept);
      this.#byId.set(found.start.processId, one);
      if (found.start.key !== undefined) this.#byKey.set(found.start.key, Promise.resolve(one));
    }
  }

  /** Of commands from now on. */
  assign(sandboxEnvironment: Map<string, string>, cwd: string): void {
    this.#sandboxEnvironment = sandboxEnvironment;
    this.#cwd = cwd;
  }

  /**
   * Starts it, or gives the one that was started with the same key in the same session.
   * @throws {RequestError} `key_conflict`: the key was used for another command
   */
  start(request: ProcessStart, session: Session): Promise<SandboxProcess> {
    const { sessionId, detached, stdin } = request;
    const key = request.key === undefined ? undefined : `${sessionId}/${request.key}`;
    return this.#once(key, request, (asked) =>
      this.#start(request, session, { key, asked, detached, hasStdin: stdin !== undefined, terminal: undefined }),
    );
  }

  /** As `start`, on a terminal of its own; without a command it is the shell of the user. */
  startOnTerminal(request: PtyOpen, session: Session): Promise<SandboxProcess> {
    const { sessionId, size } = request;
    const key = request.key === undefined ? undefined : `pty ${sessionId}/${request.key}`; // an id has no space
    return this.#once(key, request, (asked) =>
      this.#start(request, session, { key, asked, detached: false, hasStdin: false, terminal: size }),
    );
  }

  async #once(
    key: string | undefined,
    request: Asked,
    start: (asked?: string) => SandboxProcess,
  ): Promise<SandboxProcess> {
    if (key === undefined) return start();
    const asked = hashOf(request);
    const known = this.#byKey.get(key);
    if (known) {
      const { start: before } = await known;
      if (before.asked === asked) return known;
      throw new RequestError('key_conflict', `its key has started ${before.argv.join(' ').slice(0, 200)}`);
    }
    const starting = (async () => start(asked))();
    this.#byKey.set(key, starting);
    // What did not start may be asked for again.
    starting.catch(() => this.#byKey.delete(key));
    return starting;
  }

  /** Tells the programs on all terminals that theirs is gone: what a shell with a person at it ends for. */
  hangUpTerminals(): void {
    for (const one of this.#byId.values()) if (one.start.terminal) void one.signal('SIGHUP', undefined);
  }

  findTerminal(processId: string): SandboxProcess {
    const found = this.find(processId);
    if (found.start.terminal) return found;
    throw new RequestError('not_a_terminal', `process ${processId} does not run on a terminal`);
  }

  find(processId: string): SandboxProcess {
    const found = this.#byId.get(processId);
    if (found) return found;
    throw new RequestError('unknown_process', `there is no process ${processId}, or its output is no longer kept`);
  }

  /** Sends all whose output is kept, the oldest first. */
  async list(stream: WireStream, signal: AbortSignal): Promise<void> {
    const live = liveProcesses();
    const records = new RecordWriter(stream, signal);
    for (const one of [...this.#byId.values()].slice(-limits.listedProcesses)) {
      await records.write(one.list((one.tree !== undefined && live.get(one.tree)) || []));
    }
    await records.flush();
    stream.end();
  }

  /** Resolves when all have ended and are written down as such. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#byId.values()].map((one) => one.ended));
  }

  /** Sends what `attachments` ask for, then the end. */
  async follow(
    one: SandboxProcess,
    attachments: { stdout: Attachment | undefined; stderr: Attachment | undefined },
    signal: AbortSignal,
  ): Promise<ProcessEnd> {
    const { stdout, stderr } = attachments;
    one.followers++;
    try {
      // One that was cancelled or lost is no reason not to say how the process ended.
      await Promise.allSettled([
        stdout && sendOutput(one.stdout, stdout, signal),
        stderr && sendOutput(one.stderr, stderr, signal),
      ]);
      return await one.ended;
    } finally {
      one.followers--;
      this.#rest(one);
    }
  }

  #start(
    request: Pick<ProcessStart, 'sessionId' | 'cwd' | 'env' | 'user' | 'umask' | 'timeoutMs'> & Pick<PtyOpen, 'argv'>,
    session: Session,
    { detached, ...further }: Further,
  ): SandboxProcess {
    const processId = `p_${randomHex(8)}`;
    const identity = request.user === undefined ? session.identity : findIdentity(request.user);
    const tree = newTree();
    const sources = [this.#sandboxEnvironment, this.#network.env, session.env, request.env];
    const trees: Command['trees'] = detached ? [tree] : [tree, session.tree];
    const command = {
      ...further,
      processId,
      sessionId: request.sessionId,
      argv: request.argv ?? [existsSync(identity.shell) ? identity.shell : '/bin/sh'],
      cwd: request.cwd ?? session.cwd ?? this.#cwd,
      env: commandEnvironment(further.terminal ? [terminalVariables, ...sources] : sources, identity),
      trees,
      identity,
      umask: request.umask,
      timeoutMs: request.timeoutMs,
    };
    const one = SandboxProcess.start(command, this.#kept);
    this.#byId.set(processId, one);
    void one.ended.then(() => this.#rest(one));
    return one;
  }

  /** It has ended, or somebody has read enough of it. */
  #rest(one: SandboxProcess): void {
    if (!one.complete || one.followers > 0) return;
    one.stdout.rest();
    one.stderr.rest();
    this.#dropOldest();
  }

  #dropOldest(): void {
    if (this.#byId.size < keptEnded + droppedTogether && !this.#kept.isFull) return;
    // Many at once end before their output was read, by us or by the host.
    const ended = [...this.#byId.values()].filter((one) => one.complete && one.followers === 0);
    const live = liveProcesses();
    let left = ended.length;
    for (const one of ended) {
      if (left <= keptEnded && !this.#kept.isFull) return;
      // What it has left running is listed.
      if (one.tree !== undefined && live.has(one.tree)) continue;
      this.#drop(one);
      left--;
    }
  }

  #drop(one: SandboxProcess): void {
    const { processId, key } = one.start;
    one.close();
    this.#byId.delete(processId);
    if (key !== undefined) this.#byKey.delete(key);
    this.#kept.write({ type: 'dropped', processId });
    if (this.#kept.isJournalLong) this.#kept.rewrite([...this.#byId.values()].flatMap((kept) => kept.entries));
  }
}

function hashOf({ argv, env, cwd, user, umask, timeoutMs }: Asked): string {
  return sha256(Buffer.from(JSON.stringify([argv, env, cwd, user, umask, timeoutMs]))).toString('hex');
}
