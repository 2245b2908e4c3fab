import { randomBytes } from 'node:crypto';
import type { WireStream } from '../../src/protocol/mux.ts';
import type { ProcessEnd, ProcessStart } from '../../src/protocol/process.ts';
import { commandEnvironment } from '../environment.ts';
import { RequestError } from '../errors.ts';
import { findIdentity } from '../identity.ts';
import type { Session } from '../session/sessions.ts';
import { sendOutput } from './output.ts';
import { SandboxProcess } from './process.ts';
import { liveProcesses, newTree } from './tree.ts';

/** Ended processes whose output is kept for those who attach late; the oldest goes first. */
const keptEnded = 64;

/** One output of a process, and the byte from which the host wants it. */
export interface Attachment {
  stream: WireStream;
  from: number;
}

/** Every process that was started over the wire and whose output is still kept. */
export class Processes {
  readonly #byId = new Map<string, SandboxProcess>();
  /** By session and key; the promise, so that the same key at the same time starts it once. */
  readonly #byKey = new Map<string, Promise<SandboxProcess>>();
  readonly #sandboxEnvironment: Map<string, string>;
  readonly #cwd: string;

  constructor(sandboxEnvironment: Map<string, string>, cwd: string) {
    this.#sandboxEnvironment = sandboxEnvironment;
    this.#cwd = cwd;
  }

  /** Starts it, or gives the one that was started with the same key in the same session. */
  async start(request: ProcessStart, session: Session): Promise<SandboxProcess> {
    if (request.key === undefined) return this.#start(request, session, undefined);
    const key = `${request.sessionId}/${request.key}`;
    const known = this.#byKey.get(key);
    if (known) return known;
    const starting = this.#start(request, session, key);
    this.#byKey.set(key, starting);
    // What did not start may be asked for again.
    starting.catch(() => this.#byKey.delete(key));
    return starting;
  }

  find(processId: string): SandboxProcess {
    const found = this.#byId.get(processId);
    if (found) return found;
    throw new RequestError('unknown_process', `there is no process ${processId}, or its output is no longer kept`);
  }

  /** Those that run, or have left something running; oldest first. */
  list(): ReturnType<SandboxProcess['list']>[] {
    const live = liveProcesses();
    return [...this.#byId.values()]
      .map((one) => one.list(live.get(one.tree) ?? []))
      .filter((one) => one.running || one.pids.length > 0);
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
        stdout && sendOutput(one.stdout, stdout.from, stdout.stream, signal),
        stderr && sendOutput(one.stderr, stderr.from, stderr.stream, signal),
      ]);
      return await one.ended;
    } finally {
      one.followers--;
      this.#dropOldest();
    }
  }

  async #start(request: ProcessStart, session: Session, key: string | undefined): Promise<SandboxProcess> {
    const processId = `p_${randomBytes(8).toString('hex')}`;
    const identity = request.user === undefined ? session.identity : findIdentity(request.user);
    const tree = newTree();
    const one = SandboxProcess.start({
      processId,
      sessionId: request.sessionId,
      key,
      argv: request.argv,
      cwd: request.cwd ?? session.cwd ?? this.#cwd,
      env: commandEnvironment([this.#sandboxEnvironment, session.env, request.env], identity),
      trees: request.detached ? [tree] : [tree, session.tree],
      identity,
      umask: request.umask,
      timeoutMs: request.timeoutMs,
      detached: request.detached,
      hasStdin: request.stdin !== undefined,
    });
    this.#byId.set(processId, one);
    void one.ended.then(() => {
      one.complete = true;
      this.#dropOldest();
    });
    return one;
  }

  #dropOldest(): void {
    // Many at once end before their output was read, by us or by the host.
    const ended = [...this.#byId.values()].filter((one) => one.complete && one.followers === 0);
    for (const one of ended.slice(0, Math.max(0, ended.length - keptEnded))) {
      one.close();
      this.#byId.delete(one.command.processId);
      if (one.command.key !== undefined) this.#byKey.delete(one.command.key);
    }
  }
}
