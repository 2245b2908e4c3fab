import type { Problems } from '../define/checks.ts';
import type { Masker } from '../events/masker.ts';
import type { SandboxEnv } from '../sandbox/env.ts';

/** Options of every server. */
interface CommonOptions {
  /** Of each request, in milliseconds. Default: 60,000 */
  timeoutMs?: number;
  /** A request whose server reports progress has its time anew, up to 10 minutes in all. Default: false */
  resetTimeoutOnProgress?: boolean;
  /** The tools to take, by the server's own names; one that the server does not have is an error. Default: all */
  tools?: readonly string[];
}

/** A server that is reached over HTTP. */
export interface RemoteMcpOptions extends CommonOptions {
  /** `http` or `https`. */
  url: string | URL;
  /** Default: streamable-http */
  transport?: 'streamable-http' | 'sse';
  /** Sent with each request. */
  headers?: Record<string, string>;
  /** A bearer token, or what gives one: it is asked at each request. */
  auth?: string | (() => string | Promise<string>);
  /** Given to `fetch` with each request; `headers` and `auth` win over its headers. */
  requestInit?: RequestInit;
  /** Makes the requests. Default: `fetch` of Node */
  fetch?: (url: string | URL, init?: RequestInit) => Promise<Response>;
}

/** A server that is a command of a sandbox and speaks on its standard input and output. */
export interface StdioMcpOptions extends CommonOptions {
  /** Started as it is, without a shell. */
  command: readonly string[];
  /** Added to the environment of the sandbox. */
  env?: Record<string, string>;
  /** Relative to that of the sandbox. Default: that directory */
  cwd?: string;
  /** Where it runs, and with which it ends. */
  sandbox: SandboxEnv;
}

/** How to reach an MCP server: with `url` over HTTP, with `command` as a process of a sandbox. */
export type McpServerOptions = RemoteMcpOptions | StdioMcpOptions;

const common = ['timeoutMs', 'resetTimeoutOnProgress', 'tools'];
const remote = ['url', 'transport', 'headers', 'auth', 'requestInit', 'fetch', ...common];
const stdio = ['command', 'env', 'cwd', ...common];

/** Checks the options of a server, which stand at `path`. */
export function checkMcpOptions(
  problems: Problems,
  value: unknown,
  path: string,
  { sandboxIsGiven }: { sandboxIsGiven: boolean },
): void {
  const at = (field: string) => `${path}.${field}`;
  const inSandbox = typeof value === 'object' && value !== null && 'command' in value;
  const options = problems.record(value, path, {
    known: inSandbox ? [...stdio, ...(sandboxIsGiven ? ['sandbox'] : [])] : remote,
  });
  problems.optional(options.timeoutMs, at('timeoutMs'), (field, where) => problems.positiveInteger(field, where));
  problems.optional(options.resetTimeoutOnProgress, at('resetTimeoutOnProgress'), (field, where) =>
    problems.boolean(field, where),
  );
  for (const [i, name] of problems.array(options.tools, at('tools')).entries()) {
    problems.text(name, at(`tools[${i}]`));
  }
  if (inSandbox) {
    const command = problems.array(options.command, at('command'));
    if (command.length === 0 || !command.every((item) => typeof item === 'string')) {
      problems.add(at('command'), 'must be a command and its arguments, as in ["npx", "server"]');
    }
    checkTexts(problems, options.env, at('env'));
    problems.optional(options.cwd, at('cwd'), (field, where) => problems.text(field, where));
    const sandbox = Object(options.sandbox) as Partial<SandboxEnv>; // any value: only one field is looked at
    if (sandboxIsGiven && typeof sandbox.exec !== 'function') {
      problems.add(at('sandbox'), 'must be a sandbox: harness.sandbox, say');
    }
    return;
  }
  if (!URL.canParse(String(options.url)) || !/^https?:$/.test(new URL(String(options.url)).protocol)) {
    problems.add(at('url'), 'must be an http or https URL (or give a command, for a server in the sandbox)');
  }
  problems.optional(options.transport, at('transport'), (field, where) =>
    problems.oneOf(field, where, ['streamable-http', 'sse']),
  );
  checkTexts(problems, options.headers, at('headers'));
  problems.optional(options.auth, at('auth'), (field, where) => {
    if (typeof field !== 'function') problems.text(field, where);
  });
  problems.optional(options.fetch, at('fetch'), (field, where) => problems.function(field, where));
}

/** Makes known what is secret of a server. */
export function addMcpSecrets(masker: Masker, options: Omit<McpServerOptions, 'sandbox'>): void {
  const { env, headers, auth } = options as Partial<StdioMcpOptions & RemoteMcpOptions>; // it is one of the two
  masker.addNamed({ ...env, ...headers });
  if (typeof auth === 'string') masker.add(auth);
}

function checkTexts(problems: Problems, value: unknown, path: string): void {
  for (const [name, text] of problems.entries(value, path)) {
    if (typeof text !== 'string') problems.add(`${path}.${name}`, 'must be a string');
  }
}
