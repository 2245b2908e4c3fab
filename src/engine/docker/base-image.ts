import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type Docker from 'dockerode';
import { pack } from 'tar-stream';
import { BerthError } from '../../errors.ts';
import { findProgram } from '../remedy.ts';
import { reasonOf, statusOf } from './failure.ts';
import { unpackNpmPackage } from './npm-package.ts';

/** The same folder seen from `src/` and from `dist/`. */
const recipeFolder = fileURLToPath(new URL('../../../images/base', import.meta.url));
const repository = 'berth-base';

export interface BaseImageOptions {
  /** Called with one line of text for each step. */
  readonly onProgress?: (step: string) => void;
  readonly signal?: AbortSignal;
}

/** The sandbox's default image is not there and can't be made here; `failures` has the reason of each way to make it. */
export class BaseImageUnavailableError extends BerthError<{
  readonly tag: string;
  readonly failures: readonly string[];
  /** What would make it possible, when it is one thing: a program to install. */
  readonly missing?: 'mmdebstrap';
}> {
  static {
    BaseImageUnavailableError.prototype.name = 'BaseImageUnavailableError';
  }
  readonly code = 'base_image_unavailable';
  override readonly status = 503;
  constructor(meta: { tag: string; failures: readonly string[]; missing?: 'mmdebstrap' }, options?: ErrorOptions) {
    const advice =
      meta.missing === 'mmdebstrap'
        ? 'Install mmdebstrap (as root: apt-get install -y mmdebstrap) and run berth image build again as root.'
        : 'Give the engine access to a registry, or run berth image build as root on a Debian or Ubuntu machine.';
    super(`The base image ${meta.tag} can't be made: ${meta.failures.join('; ')}. ${advice}`, meta, options);
  }
}

/** The image's name; its tag is a hash of the recipe, so that a changed recipe is another image. */
export async function baseImageTag(): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, content] of await readRecipe()) {
    hash.update(`${name}\0${content.length}\0`).update(content);
  }
  return `${repository}:${hash.digest('hex').slice(0, 12)}`;
}

/**
 * Makes the sandbox's default image when the engine does not have it: from the Dockerfile where the engine reaches a
 * registry, otherwise from Debian's packages, for which this process must be root on Linux.
 * @returns its name
 * @throws {BaseImageUnavailableError} neither way is possible here
 */
export async function ensureBaseImage(docker: Docker, { onProgress, signal }: BaseImageOptions = {}): Promise<string> {
  const tag = await baseImageTag();
  if (await hasImage(docker, tag)) return tag;
  const failures: Error[] = [];
  for (const build of [buildFromRegistry, buildFromDebian]) {
    try {
      await build(docker, tag, onProgress ?? (() => {}), signal);
      await docker.getImage(tag).tag({ repo: repository, tag: 'latest' });
      return tag;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Error)) throw error;
      failures.push(error);
      onProgress?.(`not this way: ${error.message.split('\n', 1)[0]}`);
    }
  }
  throw new BaseImageUnavailableError(
    {
      tag,
      failures: failures.map(({ message }) => message.trim()),
      ...(failures.some((error) => error instanceof MissingProgramError) && { missing: 'mmdebstrap' }),
    },
    { cause: failures.at(-1) },
  );
}

class MissingProgramError extends Error {}

async function buildFromRegistry(
  docker: Docker,
  tag: string,
  onProgress: (step: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const recipe = await readRecipe();
  const from = `node:${(await readNodePackages()).version}-bookworm-slim`;
  await pull(docker, from, onProgress, signal);
  const context = pack();
  for (const [name, content] of recipe) context.entry({ name, mode: 0o644 }, content);
  context.finalize();
  onProgress(`building ${tag} from images/base/Dockerfile`);
  try {
    const answer = await docker.buildImage(Readable.from(context), {
      t: tag,
      forcerm: true,
      ...(signal && { abortSignal: signal }),
    });
    for await (const { stream } of engineEvents(answer)) {
      const step = stream?.match(/^Step .*/)?.[0];
      if (step !== undefined) onProgress(step);
    }
  } catch (error) {
    // The classic builder keeps the steps before the one that failed. The first line of the recipe labels them all.
    await docker.pruneImages({ filters: { dangling: ['true'], label: ['berth.image=base'] } }).catch(() => {});
    throw error;
  }
}

/** A registry that is there begins to answer in this time; behind a firewall that drops packets nothing ever does. */
const registryAnswerMs = 8_000;

async function pull(
  docker: Docker,
  name: string,
  onProgress: (step: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (await hasImage(docker, name)) return;
  onProgress(`asking the registry for ${name}`);
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), registryAnswerMs);
  try {
    const abortSignal = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
    const answer = await docker.createImage({ fromImage: name, abortSignal });
    for await (const { status } of engineEvents(answer)) {
      clearTimeout(timer);
      if (status?.startsWith('Pull complete') || status?.startsWith('Pulling from')) onProgress(status);
    }
  } catch (error) {
    if (silence.signal.aborted) throw new Error(`no registry answers within ${registryAnswerMs / 1000} s`);
    throw new Error(`no ${name} from a registry: ${reasonOf(error)}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

async function buildFromDebian(
  docker: Docker,
  tag: string,
  onProgress: (step: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new Error("making it from Debian's packages needs root on Linux");
  }
  const { Arch } = await docker.version();
  const arch = { x64: 'amd64', arm64: 'arm64' }[process.arch as string];
  if (arch !== Arch) throw new Error(`this machine is ${process.arch}, the engine's is ${Arch}`);
  if ((await findProgram('mmdebstrap')) === undefined) throw new MissingProgramError('mmdebstrap is not installed');

  const folder = await mkdtemp(join(tmpdir(), 'berth-base-image-'));
  try {
    const node = await readNodePackages();
    onProgress(`getting Node ${node.version} and npm ${node.npm} from the npm registry`);
    const usrLocal = join(folder, 'local');
    await unpack(node, `node-linux-${process.arch}@${node.version}`, join(folder, 'node'), signal);
    await unpack(node, `npm@${node.npm}`, join(usrLocal, 'lib/node_modules/npm'), signal);
    await mkdir(join(usrLocal, 'bin'));
    await rename(join(folder, 'node/bin/node'), join(usrLocal, 'bin/node'));
    for (const name of ['npm', 'npx']) {
      await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(usrLocal, 'bin', name));
    }
    onProgress(`making ${tag} from Debian's packages`);
    await importDebian(docker, tag, { usrLocal, folder }, onProgress, signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs from-debian.sh and gives what it writes to the engine, which makes an image only of the whole of it. */
async function importDebian(
  docker: Docker,
  tag: string,
  { usrLocal, folder }: { usrLocal: string; folder: string },
  onProgress: (step: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const dockerfile = await readFile(join(recipeFolder, 'Dockerfile'), 'utf8');
  // Only here: it takes as long to load as half of all else, and images are built once.
  const { execa } = await import('execa');
  const debian = execa('sh', [join(recipeFolder, 'from-debian.sh'), usrLocal], {
    stdin: 'ignore',
    buffer: { stdout: false },
    // What it leaves when it is killed goes away with our own folder. unshare(1) does not listen to other signals.
    env: { TMPDIR: folder },
    killSignal: 'SIGKILL',
    ...(signal && { cancelSignal: signal }),
  });
  createInterface({ input: debian.stderr }).on('line', (line) => {
    const step = line.match(/^I: (.*)\.\.\.$/)?.[1];
    if (step !== undefined) onProgress(step);
  });
  // The body of the request must not end well when the archive was cut: its end is the program's end.
  const archive = Readable.from(
    (async function* () {
      yield* debian.stdout;
      await debian;
    })(),
    { objectMode: false },
  );
  try {
    const answer = await docker.importImage(archive, {
      // The whole name: Podman does not look at a `tag` beside it.
      repo: tag,
      changes: dockerfile.match(/^(ENV|WORKDIR|USER|LABEL|CMD) .*$/gm),
      ...(signal && { abortSignal: signal }),
    });
    for await (const { status } of engineEvents(answer)) if (status) onProgress(`imported ${status}`);
  } catch (error) {
    const isOver = debian.exitCode !== null || debian.signalCode !== null;
    debian.kill();
    const failure = await debian.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    // When it failed by itself, its error is the one to report.
    throw isOver && failure ? failure : error;
  } finally {
    archive.destroy();
  }
}

interface EngineEvent {
  readonly status?: string;
  readonly stream?: string;
  readonly error?: string;
}

/** The lines of JSON with which the engine reports on a long work; an error among them is thrown. */
export async function* engineEvents(answer: NodeJS.ReadableStream): AsyncGenerator<EngineEvent> {
  let rest = '';
  answer.setEncoding('utf8');
  for await (const chunk of answer) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() === '') continue;
      const event: EngineEvent = JSON.parse(line);
      if (event.error !== undefined) throw new Error(event.error);
      yield event;
    }
  }
}

async function hasImage(docker: Docker, name: string): Promise<boolean> {
  try {
    await docker.getImage(name).inspect();
    return true;
  } catch (error) {
    if (statusOf(error) === 404) return false;
    throw error;
  }
}

/** Everything that makes the image, in a fixed order. */
async function readRecipe(): Promise<[name: string, content: Buffer][]> {
  const names = (await readdir(recipeFolder)).sort();
  return Promise.all(
    names.map(async (name): Promise<[string, Buffer]> => [name, await readFile(join(recipeFolder, name))]),
  );
}

interface NodePackages {
  readonly version: string;
  readonly npm: string;
  readonly integrity: Readonly<Record<string, string>>;
}

async function readNodePackages(): Promise<NodePackages> {
  return JSON.parse(await readFile(join(recipeFolder, 'node.json'), 'utf8')); // our own file
}

async function unpack({ integrity }: NodePackages, spec: string, to: string, signal?: AbortSignal): Promise<void> {
  const expected = integrity[spec];
  if (expected === undefined) throw new Error(`images/base/node.json has no integrity of ${spec}`);
  await unpackNpmPackage(spec, expected, to, signal);
}
