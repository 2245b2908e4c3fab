import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { BerthError } from '../errors.ts';
import { engineCommands, engineProblem, readSystem } from './remedy.ts';

/** Where an engine answers, with the names that dockerode takes: `new Docker({ ...address })`. */
export type EngineAddress =
  | { readonly socketPath: string }
  | {
      readonly protocol: 'http' | 'https';
      readonly host: string;
      readonly port: number;
      readonly ca?: Buffer;
      readonly cert?: Buffer;
      readonly key?: Buffer;
    };

export interface FoundEngine {
  readonly address: EngineAddress;
  /** The address as people write it: `unix:///var/run/docker.sock`. */
  readonly url: string;
  /** Why this one was asked: `DOCKER_HOST`, `context colima`, `default socket`, … */
  readonly source: string;
  readonly version: string;
  readonly apiVersion: string;
  /** `amd64`, `arm64`, …: of the engine, which may be another machine. */
  readonly arch: string;
}

/** One engine that was asked, and why it will not do. */
export interface EngineAttempt {
  readonly url: string;
  readonly source: string;
  /** `absent`: no such socket. `forbidden`: this user may not open it. `refused`: nobody listens there. */
  readonly reason: 'absent' | 'forbidden' | 'refused' | 'failed' | 'unsupported';
  readonly detail: string;
}

/** No container engine answers. `commands` are those that mend it on this system, in their order. */
export class EngineUnreachableError extends BerthError<{
  readonly tried: readonly EngineAttempt[];
  readonly commands: readonly string[];
}> {
  static {
    EngineUnreachableError.prototype.name = 'EngineUnreachableError';
  }
  readonly code = 'engine_unreachable';
  override readonly status = 503;
  constructor(meta: { tried: readonly EngineAttempt[]; commands: readonly string[] }, options?: ErrorOptions) {
    super(engineProblem(meta.tried, meta.commands), meta, options);
  }
}

export interface FindEngineOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

/**
 * Finds the container engine to use. `DOCKER_HOST` and `DOCKER_CONTEXT` are somebody's choice: then no other is asked.
 * Otherwise the docker command's current context, the default socket, and the usual sockets of Docker Desktop, Colima,
 * OrbStack, rootless Docker and Podman, in this order; the first one that answers is taken.
 * @throws {EngineUnreachableError} none answers; says what was tried and what to do
 */
export async function findEngine({ env = process.env, signal }: FindEngineOptions = {}): Promise<FoundEngine> {
  const tried: EngineAttempt[] = [];
  for await (const candidate of candidates(env)) {
    const answer = await ask(candidate, signal);
    if ('version' in answer) return answer;
    // One socket can be known under several names.
    if (!tried.some((attempt) => attempt.url === answer.url)) tried.push(answer);
  }
  throw new EngineUnreachableError({ tried, commands: engineCommands(tried, await readSystem(env)) });
}

interface Candidate {
  readonly url: string;
  readonly source: string;
  /** The folder that holds ca.pem, cert.pem and key.pem. */
  readonly certificates?: string;
}

async function* candidates(env: NodeJS.ProcessEnv): AsyncGenerator<Candidate> {
  const home = env.HOME ?? homedir();
  const configFolder = env.DOCKER_CONFIG ?? join(home, '.docker');
  if (env.DOCKER_HOST) {
    const certificates = env.DOCKER_TLS_VERIFY ? (env.DOCKER_CERT_PATH ?? configFolder) : undefined;
    yield { url: env.DOCKER_HOST, source: 'DOCKER_HOST', ...(certificates !== undefined && { certificates }) };
    return;
  }
  const chosen = env.DOCKER_CONTEXT || undefined;
  const context = chosen ?? (await readJson(join(configFolder, 'config.json')))?.currentContext;
  if (typeof context === 'string' && context !== '' && context !== 'default') {
    yield await readContext(configFolder, context, chosen !== undefined);
    if (chosen) return;
  }
  const socket = (path: string, source: string): Candidate => ({ url: `unix://${path}`, source });
  yield socket('/var/run/docker.sock', chosen ? 'DOCKER_CONTEXT' : 'default socket');
  if (chosen) return;

  const runtime = env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.()}`;
  const colima = env.COLIMA_HOME ?? join(home, '.colima');
  yield socket(join(runtime, 'docker.sock'), 'rootless Docker');
  yield socket(join(home, '.docker/run/docker.sock'), 'Docker Desktop');
  yield socket(join(home, '.docker/desktop/docker.sock'), 'Docker Desktop');
  yield socket(join(colima, 'default/docker.sock'), 'Colima');
  yield socket(join(home, '.config/colima/default/docker.sock'), 'Colima');
  yield socket(join(home, '.orbstack/run/docker.sock'), 'OrbStack');
  yield socket(join(runtime, 'podman/podman.sock'), 'Podman');
  yield socket('/run/podman/podman.sock', 'Podman');
  yield socket(join(home, '.local/share/containers/podman/machine/podman.sock'), 'Podman');
}

/** Contexts are kept by the docker command under the SHA-256 of their name. */
async function readContext(configFolder: string, name: string, chosen: boolean): Promise<Candidate> {
  const id = createHash('sha256').update(name).digest('hex');
  const meta = await readJson(join(configFolder, 'contexts/meta', id, 'meta.json'));
  const url: unknown = meta?.Endpoints?.docker?.Host;
  const source = chosen ? 'DOCKER_CONTEXT' : `docker context ${name}`;
  if (typeof url !== 'string') return { url: `context:${name}`, source };
  const certificates = join(configFolder, 'contexts/tls', id, 'docker');
  const usesTls = await readFile(join(certificates, 'ca.pem')).then(
    () => true,
    () => false,
  );
  return { url, source, ...(usesTls && { certificates }) };
}

interface DockerJson {
  readonly currentContext?: unknown;
  readonly Endpoints?: { readonly docker?: { readonly Host?: unknown } };
  readonly Version?: unknown;
  readonly ApiVersion?: unknown;
  readonly Arch?: unknown;
}

/** A file of the docker command; without it, or when it is broken, there is no choice to follow. */
async function readJson(path: string): Promise<DockerJson | undefined> {
  try {
    return parseObject(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function parseObject(text: string): DockerJson {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new SyntaxError('not a JSON object');
  return value; // every field is looked at as unknown
}

async function ask(
  { url, source, certificates }: Candidate,
  signal?: AbortSignal,
): Promise<FoundEngine | EngineAttempt> {
  const fail = (reason: EngineAttempt['reason'], detail: string): EngineAttempt => ({ url, source, reason, detail });
  try {
    const address = await parseAddress(url, certificates);
    if (typeof address === 'string') return fail('unsupported', address);
    await get(address, '/_ping', signal);
    const { Version, ApiVersion, Arch } = parseObject(await get(address, '/version', signal));
    return { address, url, source, version: `${Version}`, apiVersion: `${ApiVersion}`, arch: `${Arch}` };
  } catch (error) {
    signal?.throwIfAborted();
    const { code, message } = error as NodeJS.ErrnoException; // node throws nothing but errors here
    if (code === 'ENOENT' || code === 'ENOTDIR') return fail('absent', 'there is no such socket');
    if (code === 'EACCES' || code === 'EPERM') return fail('forbidden', 'this user may not open the socket');
    if (code === 'ECONNREFUSED') return fail('refused', 'nothing listens there');
    return fail('failed', message || `${code}`);
  }
}

/** The address for an URL as DOCKER_HOST has it, or the reason why it can't be used. */
async function parseAddress(url: string, certificates: string | undefined): Promise<EngineAddress | string> {
  if (url.startsWith('context:')) return 'the docker command knows no such context';
  if (url.startsWith('unix://')) return { socketPath: url.slice('unix://'.length) || '/var/run/docker.sock' };
  if (url.startsWith('ssh://')) {
    return `Berth does not connect over ssh; forward the socket instead: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock ${url} and DOCKER_HOST=unix:///tmp/docker.sock`;
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed?.hostname || !['tcp:', 'http:', 'https:'].includes(parsed.protocol)) {
    return 'Berth knows unix://PATH and tcp://HOST:PORT';
  }
  const secure = certificates !== undefined || parsed.protocol === 'https:';
  const port = parsed.port ? Number(parsed.port) : secure ? 2376 : 2375;
  const host = parsed.hostname.replace(/^\[|\]$/g, '');
  if (!secure) return { protocol: 'http', host, port };
  if (certificates === undefined) return { protocol: 'https', host, port };
  const read = (name: string) =>
    readFile(join(certificates, name)).catch((cause: Error) => {
      throw new Error(`its certificates can't be read: ${cause.message}`, { cause });
    });
  // In turn, so that of several that are missing the same one is named each time.
  const ca = await read('ca.pem');
  const cert = await read('cert.pem');
  const key = await read('key.pem');
  return { protocol: 'https', host, port, ca, cert, key };
}

/** An engine that is there answers in milliseconds; one that does not in this time is as good as none. */
const answerMs = 5_000;
const answerBytes = 1024 * 1024;

function get(address: EngineAddress, path: string, signal?: AbortSignal): Promise<string> {
  const timeout = AbortSignal.timeout(answerMs);
  const send = 'protocol' in address && address.protocol === 'https' ? httpsRequest : httpRequest;
  const protocol = send === httpsRequest ? 'https:' : 'http:';
  return new Promise<string>((resolve, reject) => {
    const fail = (error: Error) => {
      reject(timeout.aborted ? new Error(`no answer within ${answerMs / 1000} s`) : error);
    };
    const request = send(
      { ...address, protocol, path, agent: false, signal: signal ? AbortSignal.any([timeout, signal]) : timeout },
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > answerBytes) request.destroy(new Error('the answer is no engine’s: it is too long'));
          chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => {
          const body = Buffer.concat(chunks).toString();
          if (response.statusCode === 200) resolve(body);
          else fail(new Error(`GET ${path} answers ${response.statusCode}: ${body.slice(0, 200).trim()}`));
        });
      },
    );
    request.on('error', fail);
    request.end();
  });
}
