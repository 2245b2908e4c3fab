import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { ProcessEnd, ProcessStart } from '../../src/protocol/process.ts';
import type { PtyOpen } from '../../src/protocol/pty.ts';
import type { Environment } from '../../src/protocol/values.ts';
import { commandEnvironment } from '../environment.ts';
import { RequestError } from '../errors.ts';
import { findIdentity } from '../identity.ts';
import type { Session } from '../session/sessions.ts';
import { type Attachment, sendOutput } from './output.ts';
import { type Command, SandboxProcess } from './process.ts';
import { liveProcesses, newTree } from './tree.ts';

/** Ended processes whose output is kept for those who attach late; the oldest goes first. */
const keptEnded = 64;

/** What a terminal is that nobody says more of; TERM of the image, the session or the call comes first. */
const terminalVariables: Environment = [['TERM', 'xterm-256color']];

/** What only one of the two ways to start a process can ask for. */
type Further = Pick<Command, 'key' | 'hasStdin' | 'terminal'> & { detached: boolean };

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
  start(request: ProcessStart, session: Session): Promise<SandboxProcess> {
    const { sessionId, detached, stdin } = request;
    const key = request.key === undefined ? undefined : `${sessionId}/${request.key}`;
    return this.#once(key, () =>
      this.#start(request, session, { key, detached, hasStdin: stdin !== undefined, terminal: undefined }),
    );
  }

  /** As `start`, on a terminal of its own; without a command it is the shell of the user. */
  startOnTerminal(request: PtyOpen, session: Session): Promise<SandboxProcess> {
    const { sessionId, size } = request;
    const key = request.key === undefined ? undefined : `pty ${sessionId}/${request.key}`; // an id has no space
    return this.#once(key, () =>
      this.#start(request, session, { key, detached: false, hasStdin: false, terminal: size }),
    );
  }

  async #once(key: string | undefined, start: () => SandboxProcess): Promise<SandboxProcess> {
    if (key === undefined) return start();
    const known = this.#byKey.get(key);
    if (known) return known;
    const starting = (async () => start())();
    this.#byKey.set(key, starting);
    // What did not start may be asked for again.
    starting.catch(() => this.#byKey.delete(key));
    return starting;
  }

  /** Tells the programs on all terminals that theirs is gone: what a shell with a person at it ends for. */
  hangUpTerminals(): void {
    for (const one of this.#byId.values()) if (one.command.terminal) one.end('SIGHUP', undefined);
  }

  findTerminal(processId: string): SandboxProcess {
    const found = this.find(processId);
    if (found.command.terminal) return found;
    throw new RequestError('not_a_terminal', `process ${processId} does not run on a terminal`);
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
        stdout && sendOutput(one.stdout, stdout, signal),
        stderr && sendOutput(one.stderr, stderr, signal),
      ]);
      return await one.ended;
    } finally {
      one.followers--;
      this.#dropOldest();
    }
  }

  #start(
    request: Pick<ProcessStart, 'sessionId' | 'cwd' | 'env' | 'user' | 'umask' | 'timeoutMs'> & Pick<PtyOpen, 'argv'>,
    session: Session,
    { detached, ...further }: Further,
  ): SandboxProcess {
    const processId = `p_${randomBytes(8).toString('hex')}`;
    const identity = request.user === undefined ? session.identity : findIdentity(request.user);
    const tree = newTree();
    const sources = [this.#sandboxEnvironment, session.env, request.env];
    const one = SandboxProcess.start({
      ...further,
      processId,
      sessionId: request.sessionId,
      argv: request.argv ?? [existsSync(identity.shell) ? identity.shell : '/bin/sh'],
      cwd: request.cwd ?? session.cwd ?? this.#cwd,
      env: commandEnvironment(further.terminal ? [terminalVariables, ...sources] : sources, identity),
      trees: detached ? [tree] : [tree, session.tree],
      identity,
      umask: request.umask,
      timeoutMs: request.timeoutMs,
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
