import type { SessionOpen } from '../../src/protocol/session.ts';
import { rootSessionId } from '../../src/protocol/session.ts';
import type { Environment } from '../../src/protocol/values.ts';
import { RequestError } from '../errors.ts';
import { findIdentity, type Identity } from '../identity.ts';
import { forgetTree, killTree, newTree } from '../process/tree.ts';

/** Processes with an environment, a directory and an end of their own. */
export class Session {
  readonly id: string;
  readonly env: Environment;
  readonly cwd: string | undefined;
  readonly identity: Identity;
  /** Of all that was started here, but for what was detached. */
  readonly tree = newTree();
  closing: Promise<void> | undefined;

  constructor(id: string, env: Environment, cwd: string | undefined, identity: Identity) {
    this.id = id;
    this.env = env;
    this.cwd = cwd;
    this.identity = identity;
  }

  /** Kills its tree; resolves when that is dead. */
  close(): Promise<void> {
    this.closing ??= killTree(this.tree);
    return this.closing;
  }
}

export class Sessions {
  readonly #open = new Map<string, Session>();
  #identity: Identity;

  constructor(identity: Identity) {
    this.#identity = identity;
    this.assign(identity);
  }

  /** Of commands from now on. */
  assign(identity: Identity): void {
    this.#identity = identity;
    this.#open.set(rootSessionId, new Session(rootSessionId, [], undefined, identity));
  }

  async open(request: SessionOpen): Promise<void> {
    await this.#open.get(request.sessionId)?.closing; // its key may be asked for again at once
    if (this.#open.has(request.sessionId)) return;
    const identity = request.user === undefined ? this.#identity : findIdentity(request.user);
    this.#open.set(request.sessionId, new Session(request.sessionId, request.env, request.cwd, identity));
  }

  find(sessionId: string): Session {
    const session = this.#open.get(sessionId);
    if (!session || session.closing) throw new RequestError('unknown_session', `session ${sessionId} is not open`);
    return session;
  }

  async close(sessionId: string): Promise<void> {
    if (sessionId === rootSessionId) throw new RequestError('EINVAL', 'the session of the sandbox itself stays open');
    const session = this.#open.get(sessionId);
    if (!session) return;
    await session.close();
    if (this.#open.delete(sessionId)) forgetTree(session.tree);
  }
}
