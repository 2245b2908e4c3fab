import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { duplexOf } from '../../protocol/duplex.ts';
import type { Wire } from '../wire.ts';
import { type Decision, decide, namesOf, type Resolve, stillAllows, type Target } from './decide.ts';
import { HttpProxy } from './http-proxy.ts';
import { connect, Refusal, relay } from './outgoing.ts';
import type { CompiledPolicy } from './policy.ts';
import { readSocksRequest, socksReply } from './socks.ts';
import { proxyVariables } from './variables.ts';

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
  method?: string;
  path?: string;
  bytesOut: number;
  bytesIn: number;
  durationMs: number;
}

interface Tunnel {
  target: Target;
  address: string;
  socket: Socket;
  cut: () => void;
}

/** Connections that the sandbox-agent can hand over at once, without asking the host first. */
const idleAccepts = 8;
/** How often it is looked whether `maxBytes` are spent. */
const meterMs = 50;
/** For a program to say what it wants. */
const firstByteMs = 60_000;
/** Of what a program says that is told: it may be anything. */
const mostCharacters = 1_024;

/** The way out of one sandbox: takes what its programs connect to, decides, and connects. */
export class Gateway {
  readonly #wire: Wire;
  readonly #resolve: Resolve;
  readonly #onDecision: (decision: NetworkDecision) => void;
  readonly #http: HttpProxy;
  readonly #tunnels = new Set<Tunnel>();
  /** Programs that are connected. */
  readonly #programs = new Set<Duplex>();
  #policy: CompiledPolicy | undefined;
  /** Of connections that have ended, since the policy was set. */
  #bytes = 0;
  #meter: NodeJS.Timeout | undefined;
  #accepting = 0;

  constructor(wire: Wire, resolve: Resolve, onDecision: (decision: NetworkDecision) => void) {
    this.#wire = wire;
    this.#resolve = resolve;
    this.#onDecision = onDecision;
    this.#http = new HttpProxy((target) => this.open(target));
  }

  /**
   * Takes a policy in place of the one before; connections that it does not allow are cut.
   * @param options.takesOver - programs go out through here, also where another process serves
   */
  async set(policy: CompiledPolicy | undefined, { takesOver }: { takesOver: boolean }): Promise<void> {
    this.#policy = policy;
    this.#bytes = 0;
    this.#measure(policy);
    for (const tunnel of [...this.#tunnels]) {
      if (!policy || !stillAllows(policy, tunnel.target, tunnel.address)) tunnel.cut();
    }
    if (!policy) {
      for (const program of this.#programs) program.destroy();
      await this.#wire.call({ type: 'network.stop' }, 'ok');
      return;
    }
    await this.#wire.call({ type: 'network.serve', takesOver, env: proxyVariables, names: namesOf(policy) }, 'ok');
    this.#accept();
  }

  /** The wire has ended, or the sandbox is let go. */
  close(): void {
    this.#policy = undefined;
    clearInterval(this.#meter);
    for (const { cut } of [...this.#tunnels]) cut();
    for (const program of this.#programs) program.destroy();
  }

  /**
   * Connects where the policy allows it.
   * @throws {Refusal}
   */
  async open(target: Target): Promise<Socket> {
    const startedAt = performance.now();
    const { host, port, request } = target;
    const tell = (told: Partial<NetworkDecision> & { allowed: boolean }) =>
      this.#onDecision({
        host: host.slice(0, mostCharacters),
        port,
        ...(request && { method: request.method, path: request.path.slice(0, mostCharacters) }),
        bytesOut: 0,
        bytesIn: 0,
        durationMs: Math.round(performance.now() - startedAt),
        ...told,
      });
    const policy = this.#policy;
    const decision = await this.#decide(policy, target);
    if (!decision.allowed) {
      tell({ allowed: false, reason: decision.reason });
      throw new Refusal(decision.reason, decision.hint);
    }
    const { rule } = decision;
    let socket: Socket;
    try {
      socket = await connect(decision.addresses, port);
    } catch (error) {
      const reason = `${host}:${port} could not be reached: ${(error as Error).message}`;
      tell({ allowed: true, rule, reason });
      throw new Refusal(reason, '', { isFailure: true });
    }
    const address = socket.remoteAddress ?? '';
    const cut = () => socket.destroy(new Error('the policy of the sandbox does not allow it any more'));
    const tunnel = { target, address, socket, cut };
    // Set meanwhile.
    if (this.#policy !== policy && !(this.#policy && stillAllows(this.#policy, target, address))) {
      cut();
      throw new Refusal('the policy of the sandbox does not allow it any more');
    }
    this.#tunnels.add(tunnel);
    socket.once('close', () => {
      this.#tunnels.delete(tunnel);
      tell({ allowed: true, rule, address, bytesOut: socket.bytesWritten, bytesIn: socket.bytesRead });
      this.#bytes += socket.bytesRead + socket.bytesWritten;
    });
    return socket;
  }

  async #decide(policy: CompiledPolicy | undefined, target: Target): Promise<Decision> {
    if (!policy) return { allowed: false, reason: 'the sandbox has no network', hint: '' };
    if (this.#isSpent(policy)) {
      const hint = 'to allow more, set the policy again, with more maxBytes or without';
      return { allowed: false, reason: `the ${policy.maxBytes} bytes of maxBytes are spent`, hint };
    }
    return decide(policy, target, this.#resolve);
  }

  #isSpent({ maxBytes }: CompiledPolicy): boolean {
    let bytes = this.#bytes;
    for (const { socket } of this.#tunnels) bytes += socket.bytesRead + socket.bytesWritten;
    return bytes > maxBytes;
  }

  #measure(policy: CompiledPolicy | undefined): void {
    clearInterval(this.#meter);
    if (!policy || policy.maxBytes === Number.POSITIVE_INFINITY) return;
    this.#meter = setInterval(() => {
      if (this.#isSpent(policy)) for (const { cut } of [...this.#tunnels]) cut();
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
    const stream = this.#wire.openStream({ send: true, receive: true });
    const program = duplexOf(stream);
    program.on('error', () => {}); // it is destroyed, which whoever works on it notices
    try {
      const { to } = await this.#wire.call({ type: 'network.accept', stream: stream.id }, 'network.accepted');
      this.#programs.add(program);
      program.once('close', () => {
        this.#programs.delete(program);
        this.#accept();
      });
      void this.#serve(program, to).catch(() => program.destroy());
    } catch {
      program.destroy(); // the wire has ended
    }
  }

  async #serve(program: Duplex, to: { name: string; port: number } | undefined): Promise<void> {
    // From inside comes anything.
    if (to) return this.#tunnel(program, { host: to.name, port: to.port }, () => {});
    const patience = setTimeout(() => program.destroy(), firstByteMs);
    const first: Buffer | null = await new Promise((resolve) => {
      const look = () => {
        const chunk = program.read() as Buffer | null;
        if (chunk === null && !program.readableEnded && !program.destroyed) return;
        program.off('readable', look);
        resolve(chunk);
      };
      program.on('readable', look);
      program.once('close', () => resolve(null));
    });
    clearTimeout(patience);
    if (first === null) return void program.destroy();
    program.unshift(first);
    if (first[0] !== 0x05) return this.#http.serve(program);
    const target = await readSocksRequest(program);
    await this.#tunnel(program, target, (refusal) => program.write(socksReply(refusal)));
  }

  /** @param reply - says to the program what became of it, before the first byte */
  async #tunnel(program: Duplex, target: Target, reply: (refusal?: Refusal) => void): Promise<void> {
    let socket: Socket;
    try {
      socket = await this.open(target);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply(error);
      program.end();
      program.destroy();
      return;
    }
    reply();
    relay(program, socket);
  }
}
