/**
 * Variables that change how the sandbox-agent itself starts (those of its loader, its C library and its Node), and HOME,
 * which the engine sets where nobody did. What a user or an image wants of them is for commands only.
 */
const ofTheAgent = /^(LD_|NODE_|GLIBC_|MALLOC_|OPENSSL_|SSL_|UV_|BERTH_|HOME$)/;

const unsetName = 'BERTH_UNSET';

export interface AgentSettings {
  sandboxId: string;
  publicKey: string;
  version: string;
  /** Empty: root. */
  user: string;
  cwd: string;
  idleTimeoutMs: number | undefined;
  maxLifetimeMs: number | undefined;
  /** It waits to be assigned. */
  isForPool: boolean;
  /** A directory. */
  compileCache: string;
  /** Variables that the engine adds where they are not named: those of the image. */
  inherited: readonly string[];
}

/**
 * The environment of a container, for the sandbox-agent and, through it, for commands: it gives `BERTH_ENV_X` to them
 * as `X`, and nothing else that begins with `BERTH_`, and no variable that `BERTH_UNSET` names. Later pairs win.
 */
export function containerEnvironment(
  variables: readonly (readonly [name: string, value: string])[],
  settings: AgentSettings,
): string[] {
  const result = new Map<string, string>();
  for (const [name, value] of variables) {
    if (ofTheAgent.test(name)) {
      // An empty value, because the engine would otherwise set the image's.
      result.set(name, '');
      result.set(`BERTH_ENV_${name}`, value);
    } else {
      result.set(name, value);
    }
  }
  result.set('BERTH_SANDBOX', settings.sandboxId);
  result.set('BERTH_PUBLIC_KEY', settings.publicKey);
  result.set('BERTH_VERSION', settings.version);
  result.set('BERTH_USER', settings.user);
  result.set('BERTH_CWD', settings.cwd);
  result.set('BERTH_IDLE_MS', `${settings.idleTimeoutMs ?? ''}`);
  result.set('BERTH_LIFETIME_MS', `${settings.maxLifetimeMs ?? ''}`);
  result.set('BERTH_POOL', settings.isForPool ? '1' : '');
  // Its work is one thread's; the pool only opens and reads files.
  result.set('UV_THREADPOOL_SIZE', '2');
  result.set('NODE_COMPILE_CACHE', settings.compileCache);
  // Of the parent of a fork. An engine can't be told to leave them out: there are some that would take their own.
  const unset = settings.inherited.filter((name) => name !== unsetName && !result.has(name));
  for (const name of unset) result.set(name, '');
  result.set(unsetName, unset.join('\n'));
  return Array.from(result, ([name, value]) => `${name}=${value}`);
}
