import { abortError } from '../../errors.ts';
import type { Problems } from '../define/checks.ts';
import { LinkedAbort } from '../linked-abort.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { unlessIgnored } from '../unless-ignored.ts';
import { type McpServer, openMcpServer } from './connect.ts';
import { checkMcpOptions, type RemoteMcpOptions, type StdioMcpOptions } from './options.ts';

/** The servers of an agent by name: one that is a command runs in the agent's sandbox. */
export type McpServers = Readonly<Record<string, RemoteMcpOptions | Omit<StdioMcpOptions, 'sandbox'>>>;

export function checkMcpServers(problems: Problems, value: unknown, path: string): void {
  for (const [name, options] of problems.entries(value, path)) {
    problems.text(name, `the name of a server in ${path}`);
    checkMcpOptions(problems, options, `${path}.${name}`, { sandboxIsGiven: false });
  }
}

/** The servers of the agents at work in one harness, connected when a model first needs them. */
export class AgentServers {
  readonly #env: SandboxEnv;
  readonly #stop: LinkedAbort;
  readonly #connected = new Map<McpServers, Promise<McpServer[]>>();

  /** `signal` ends what is being connected, `env` is where servers run. */
  constructor(env: SandboxEnv, signal: AbortSignal) {
    this.#env = env;
    this.#stop = new LinkedAbort(signal);
  }

  /**
   * Those that there are, or new ones; whoever else asks meanwhile waits for the same.
   * @throws {McpConnectionError} one can't be reached: all are tried again the next time
   */
  async connected(
    servers: McpServers,
    { signal, warn }: { signal: AbortSignal; warn: (message: string) => void },
  ): Promise<McpServer[]> {
    let connecting = this.#connected.get(servers);
    if (!connecting) {
      connecting = this.#connect(servers, warn);
      this.#connected.set(servers, connecting);
      connecting.catch(() => this.#connected.delete(servers));
    }
    return unlessIgnored(connecting, signal, { graceMs: 0, giveUp: () => abortError(signal.reason) });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#stop.release();
    const all = await Promise.allSettled(this.#connected.values());
    await closeAll(all.flatMap((connected) => (connected.status === 'fulfilled' ? connected.value : [])));
  }

  async #connect(servers: McpServers, warn: (message: string) => void): Promise<McpServer[]> {
    const { signal } = this.#stop;
    const tried = await Promise.allSettled(
      Object.entries(servers).map(([name, options]) => {
        const complete = 'command' in options ? { ...options, sandbox: this.#env } : options;
        return openMcpServer(name, complete, { signal, warn });
      }),
    );
    const failure = tried.find((one) => one.status === 'rejected');
    const opened = tried.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
    if (!failure) return opened;
    await closeAll(opened);
    throw failure.reason;
  }
}

async function closeAll(servers: McpServer[]): Promise<void> {
  await Promise.allSettled(servers.map((server) => server.close()));
}
