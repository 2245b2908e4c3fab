import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { duplexOf } from '../../protocol/duplex.ts';
import type { Wire } from '../wire.ts';
import type { Authority } from './authority.ts';
import {
  type Decision,
  decide,
  isByRequest,
  namesOf,
  normalHost,
  type Resolve,
  stillAllows,
  type Target,
} from './decide.ts';
import { firstByte } from './first-byte.ts';
import { HttpProxy } from './http-proxy.ts';
import { connectTo, Refusal, relay } from './outgoing.ts';
import type { CompiledPolicy } from './policy.ts';
import { Secrets } from './secrets.ts';
import { readSocksRequest, socksReply } from './socks.ts';
import { Upstream } from './upstream.ts';
import { authorityVariables, proxyVariables } from './variables.ts';

/** What was decided of one connection or request, told when it has ended. Times are milliseconds, sizes bytes. */
export interface NetworkDecision {
  host: string;
  port: number;
  allowed: boolean;
  /** The one that allows it, as it was written. */
  rule?: string;
  /** Why not, or why it failed. */
  reason?: string;
  /** That was connected to. */
  address?: string;
  /** Of a request that the host looked into, with `path`, which has no query. */
  method?: string;
  path?: string;
  /** The names of those that were put in. */
  secrets?: string[];
  bytesOut: number;
  bytesIn: number;
  durationMs: number;
}

/** What the host's process has for the way out of all its sandboxes. */
export interface Outside {
  resolve: Resolve;
  /** Made when it is needed first. */
  authority: () => Promise<Authority>;
  /** Certificates, in PEM, of those that servers are trusted by beside those that Node trusts. */
  ca: readonly string[] | undefined;
}

/** A connection or request that the policy allows. */
export interface Allowed {
  target: Target;
  rule: string;
  host: string;
  /** One of these is to be connected to, and no other. */
  addresses: readonly string[];
  startedAt: number;
  policy: CompiledPolicy;
}

/** What is under way because of it. */
interface Use {
  address: string;
  bytes: () => { out: number; in: number };
  cut: () => void;
  secrets?: string[];
}

/** Connections that the sandbox-agent can hand over at once, without asking the host first. */
const idleAccepts = 8;
/** After a connection could not be taken. */
const retryMs = 1_000;
/** How often it is looked whether `maxBytes` are spent. */
const meterMs = 50;
/** Why something ends, or does not begin, that was allowed. */
const gone = { reason: 'the policy of the sandbox does not allow it any more', hint: '' };
/** Of what a program says that is told: it may be anything. */
const mostCharacters = 1_024;

/** The way out of one sandbox: takes what its programs connect to, decides, and connects. */
export class Gateway {
  readonly #wire: Wire;
  readonly #outside: Outside;
  readonly #placeholderOf: (name: string) => string;
  readonly #onDecision: (decision: NetworkDecision) => void;
  readonly #upstream: Upstream;
  readonly #http: HttpProxy;
  readonly #uses = new Map<Use, Allowed>();
  /** Programs that are connected. */
  readonly #programs = new Set<Duplex>();
  #policy: CompiledPolicy | undefined;
  #secrets: Secrets | undefined;
  /** Of what has ended, since the policy was set. */
  #bytes = 0;
  #meter: NodeJS.Timeout | undefined;
  #accepting = 0;

  /** @param placeholderOf - what the sandbox has in place of the secret of a name */
  constructor(
    wire: Wire,
    outside: Outside,
    placeholderOf: (name: string) => string,
    onDecision: (decision: NetworkDecision) => void,
  ) {
    this.#wire = wire;
    this.#outside = outside;
    this.#placeholderOf = placeholderOf;
    this.#onDecision = onDecision;
    this.#upstream = new Upstream(outside.ca);
    this.#http = new HttpProxy(this, this.#upstream, outside.authority);
  }

  get secrets(): Secrets | undefined {
    return this.#secrets;
  }

  /**
   * Takes a policy in place of the one before; connections that it does not allow are cut.
   * @param options.takesOver - programs go out through here, also where another process serves
   */
  async set(policy: CompiledPolicy | undefined, { takesOver }: { takesOver: boolean }): Promise<void> {
    this.#policy = policy;
    this.#secrets = policy && policy.secrets.length > 0 ? new Secrets(policy.secrets, this.#placeholderOf) : undefined;
    this.#bytes = 0;
    this.#measure(policy);
    for (const [{ address, cut }, { target }] of this.#uses) {
      if (!policy || !stillAllows(policy, target, address)) cut();
    }
    this.#upstream.closeIdle();
    if (!policy) {
      for (const program of this.#programs) program.destroy();
      await this.#wire.call({ type: 'network.stop' }, 'ok');
      return;
    }
    const env = [...proxyVariables, ...(this.#secrets?.env ?? [])];
    const isLookedInto = policy.secrets.length > 0 || policy.rules.some(({ methods, paths }) => methods || paths);
    const authority = isLookedInto ? await this.#outside.authority() : undefined;
    if (authority) env.push(...authorityVariables);
    if (this.#policy !== policy) return; // another one was set meanwhile
    await this.#wire.call(
      {
        type: 'network.serve',
        takesOver,
        env,
        names: namesOf(policy),
        ...(authority && { authority: { certificate: authority.certificate, hash: authority.hash } }),
      },
      'ok',
    );
    this.#accept();
  }

  /** The wire has ended, or the sandbox is let go. */
  close(): void {
    this.#policy = undefined;
    clearInterval(this.#meter);
    for (const { cut } of this.#uses.keys()) cut();
    this.#upstream.closeIdle();
    for (const program of this.#programs) program.destroy();
  }

  /**
   * Decides on a connection or a request. One that is not allowed is told of.
   * @throws {Refusal}
   */
  async allow(target: Target): Promise<Allowed> {
    const startedAt = performance.now();
    const policy = this.#policy;
    const decision = await this.#decide(policy, target);
    if (!decision.allowed || !policy) {
      const { reason, hint } = decision.allowed ? gone : decision;
      this.#tell({ target, startedAt }, { allowed: false, reason });
      throw new Refusal(reason, hint);
    }
    return { target, startedAt, policy, ...decision };
  }

  /** What was allowed could not be made. */
  failed(allowed: Allowed, { message }: Error): void {
    this.#tell(allowed, { allowed: true, rule: allowed.rule, reason: message });
  }

  /**
   * Begins what was allowed: it is cut when the policy does not allow it any more.
   * @returns to be called when it has ended
   * @throws {Refusal} another policy was set meanwhile, which does not allow it
   */
  begin(allowed: Allowed, use: Use): () => void {
    const { target, rule, policy } = allowed;
    const { address, cut, bytes, secrets } = use;
    if (this.#policy !== policy && !(this.#policy && stillAllows(this.#policy, target, address))) {
      cut();
      throw new Refusal(gone.reason);
    }
    this.#uses.set(use, allowed);
    return () => {
      if (!this.#uses.delete(use)) return;
      const { out, in: received } = bytes();
      this.#tell(allowed, {
        allowed: true,
        rule,
        address,
        bytesOut: out,
        bytesIn: received,
        ...(secrets && secrets.length > 0 && { secrets }),
      });
      this.#bytes += out + received;
    };
  }

  #tell(
    { target, startedAt }: Pick<Allowed, 'target' | 'startedAt'>,
    told: Partial<NetworkDecision> & { allowed: boolean },
  ): void {
    const { host, port, request } = target;
    this.#onDecision({
      host: host.slice(0, mostCharacters),
      port,
      ...(request && { method: request.method, path: request.path.slice(0, mostCharacters) }),
      bytesOut: 0,
      bytesIn: 0,
      durationMs: Math.round(performance.now() - startedAt),
      ...told,
    });
  }

  async #decide(policy: CompiledPolicy | undefined, target: Target): Promise<Decision> {
    if (!policy) return { allowed: false, reason: 'the sandbox has no network', hint: '' };
    if (this.#isSpent(policy)) {
      const hint = 'to allow more, set the policy again, with more maxBytes or without';
      return { allowed: false, reason: `the ${policy.maxBytes} bytes of maxBytes are spent`, hint };
    }
    return decide(policy, target, this.#outside.resolve);
  }

  #isSpent({ maxBytes }: CompiledPolicy): boolean {
    let total = this.#bytes;
    for (const { bytes } of this.#uses.keys()) {
      const { out, in: received } = bytes();
      total += out + received;
    }
    return total > maxBytes;
  }

  #measure(policy: CompiledPolicy | undefined): void {
    clearInterval(this.#meter);
    if (!policy || policy.maxBytes === Number.POSITIVE_INFINITY) return;
    this.#meter = setInterval(() => {
      if (this.#isSpent(policy)) for (const { cut } of this.#uses.keys()) cut();
    }, meterMs).unref();
  }

  /** Has enough requests out for connections to come, as long as there may be more of them. */
  #accept(): void {
    const most = this.#policy?.maxConnections ?? 0;
    while (this.#accepting < idleAccepts && this.#accepting + this.#programs.size < most) {
      this.#accepting++;
      void this.#acceptOne().finally(() => {
        this.#accepting--;
        if (this.#wire.isOpen) this.#accept();
      });
    }
  }

  async #acceptOne(): Promise<void> {
    let program: Duplex | undefined;
    try {
      const stream = this.#wire.openStream({ send: true, receive: true });
      program = duplexOf(stream);
      program.on('error', () => {}); // it is destroyed, which whoever works on it notices
      const { to } = await this.#wire.call({ type: 'network.accept', stream: stream.id }, 'network.accepted');
      this.#take(program, to);
    } catch {
      program?.destroy();
      // The wire has ended; else it has no room for more at this time, or the sandbox refuses, also for ever.
      await sleep(retryMs, undefined, { ref: false });
    }
  }

  #take(program: Duplex, to: { name: string; port: number } | undefined): void {
    this.#programs.add(program);
    program.once('close', () => {
      this.#programs.delete(program);
      this.#accept();
    });
    void this.#serve(program, to).catch(() => program.end(() => program.destroy())); // it is still told why
  }

  async #serve(program: Duplex, to: { name: string; port: number } | undefined): Promise<void> {
    // From inside comes anything.
    if (to) return this.#tunnel(program, { host: to.name, port: to.port }, () => {});
    const first = await firstByte(program);
    if (first === undefined) return;
    if (first !== 0x05) return this.#http.serve(program);
    const target = await readSocksRequest(program);
    await this.#tunnel(program, target, (refusal) => program.write(socksReply(refusal)));
  }

  /** @param reply - says to the program what became of it, before the first byte */
  async #tunnel(program: Duplex, target: Target, reply: (refusal?: Refusal) => void): Promise<void> {
    try {
      await this.tunnel(program, target, reply);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply(error);
      program.end(() => program.destroy()); // not before it is told
    }
  }

  /**
   * Connects a program to where it wants to. Where requests are decided on one by one, it talks to the host first.
   * @param reply - says to the program that it is connected
   * @throws {Refusal}
   */
  async tunnel(program: Duplex, target: Target, reply: () => void): Promise<void> {
    const { port } = target;
    const host = normalHost(target.host);
    const isBound = host !== undefined && this.#secrets?.isBoundTo(host, port) === true;
    if (this.#policy && host !== undefined && isByRequest(this.#policy, { host, port }, isBound)) {
      reply();
      await this.#http.serveFor(program, { host, port });
      return;
    }
    const allowed = await this.allow(target);
    let socket: Socket;
    try {
      socket = await connectTo({ ...allowed, port });
    } catch (error) {
      this.failed(allowed, error as Error); // `connectTo` throws nothing else
      throw error;
    }
    const end = this.begin(allowed, {
      address: socket.remoteAddress ?? '',
      bytes: () => ({ out: socket.bytesWritten, in: socket.bytesRead }),
      cut: () => socket.destroy(),
    });
    socket.once('close', end);
    reply();
    relay(program, socket);
  }
}
