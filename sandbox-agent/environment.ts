import type { Environment } from '../src/protocol/values.ts';
import type { Identity } from './identity.ts';

// A variable that would change how the sandbox-agent itself runs (NODE_OPTIONS, LD_PRELOAD) comes from the host with
// this prefix and gets its own name back for commands.
const givenAgain = 'BERTH_ENV_';

// HOME is the engine's guess, for the user that the sandbox-agent runs as.
const ofTheAgent = new Set(['HOME', 'UV_THREADPOOL_SIZE', 'NODE_COMPILE_CACHE']);

/** What the image and the sandbox's options say a command sees; read once, from the sandbox-agent's own environment. */
export function sandboxEnvironment(all: NodeJS.ProcessEnv): Map<string, string> {
  const unset = new Set(all.BERTH_UNSET?.split('\n'));
  const own = Object.fromEntries(Object.entries(all).filter(([name]) => !unset.has(name)));
  const result = new Map<string, string>();
  for (const [name, value = ''] of Object.entries(own)) {
    if (ofTheAgent.has(name) || name.startsWith('BERTH_')) continue;
    if (own[givenAgain + name] === undefined) result.set(name, value);
  }
  for (const [name, value = ''] of Object.entries(own)) {
    if (name.startsWith(givenAgain)) result.set(name.slice(givenAgain.length), value);
  }
  if (!result.has('PATH')) result.set('PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin');
  return result;
}

/** The environment of one command: later sources win, and what only the identity knows is added where nobody set it. */
export function commandEnvironment(
  sources: (Environment | Map<string, string>)[],
  identity: Identity,
): Record<string, string> {
  const result = new Map([
    ['HOME', identity.home],
    ['USER', identity.user],
    ['LOGNAME', identity.user],
    ['SHELL', identity.shell],
  ]);
  for (const source of sources) for (const [name, value] of source) result.set(name, value);
  return Object.fromEntries(result);
}
