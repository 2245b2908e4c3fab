import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { baseImageTag, engineEvents } from '../../src/engine/docker/base-image.ts';
import { findEngine } from '../../src/engine/socket.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const image = `berth-host-test:${process.pid}`;
const { address } = await findEngine();
const docker = new Docker({ ...address });

/** Images without a name: the classic builder leaves the first stage as one. */
async function listNameless(): Promise<string[]> {
  const images = await docker.listImages({
    filters: JSON.stringify({ dangling: ['true'], label: ['berth.image=host'] }),
  });
  return images.map(({ Id }) => Id);
}
let before: string[];

/** Packages that the build does not need and `npm prune` would throw away in the image: half of all that are installed. */
async function listUnneeded(): Promise<string[]> {
  const lock: { packages: Record<string, { dev?: boolean }> } = JSON.parse(
    await readFile(join(root, 'package-lock.json'), 'utf8'), // npm's
  );
  const needed = /^node_modules\/(tsx|esbuild|@esbuild\/.*|@types\/.*|@xterm\/.*|@opentelemetry\/api)$/;
  return Object.keys(lock.packages).filter((path) => lock.packages[path]?.dev && !needed.test(path));
}

// From the base image, with the packages that are installed here and without a network, so that it needs no registry.
beforeAll(async () => {
  before = await listNameless();
  const base = await baseImageTag();
  const sources = ['Dockerfile', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
  const folders = ['scripts', 'src', 'sandbox-agent', 'images', 'node_modules'];
  const left = ['node_modules/.vite*', ...(await listUnneeded())].map((path) => `--exclude=${path}`);
  const context = execa('tar', ['-C', root, '-cf', '-', '--anchored', ...left, ...sources, ...folders], {
    buffer: { stdout: false },
  });
  const answer = await docker.buildImage(context.stdout, {
    t: image,
    forcerm: true,
    networkmode: 'none',
    buildargs: { BASE: base },
  });
  let log = '';
  try {
    for await (const { stream } of engineEvents(answer)) log += stream ?? '';
    await context;
  } catch (error) {
    throw new Error(`the image can't be built:\n${log}`, { cause: error });
  } finally {
    context.kill();
  }
}, 300_000);

afterAll(async () => {
  const [made] = await docker.listImages({ filters: JSON.stringify({ reference: [image] }) });
  if (made) await docker.getImage(image).remove({ force: true });
  for (const id of await listNameless()) if (!before.includes(id)) await docker.getImage(id).remove();
});

/** Runs the image as its own user, who may open the engine's socket through its group only. */
async function create(options: Docker.ContainerCreateOptions): Promise<Docker.Container> {
  if (!('socketPath' in address)) throw new Error('this test gives the container the socket of a local engine');
  const { gid } = await stat(address.socketPath);
  return await docker.createContainer({
    Image: image,
    ...options,
    HostConfig: { Binds: [`${address.socketPath}:/var/run/docker.sock`], GroupAdd: [`${gid}`], NetworkMode: 'none' },
  });
}

test('runs as an ordinary user, who reaches the engine through the group of its socket', async () => {
  const container = await create({ Cmd: ['doctor'] });
  try {
    await container.start();
    const { StatusCode } = await container.wait();
    const log = await container.logs({ stdout: true, stderr: true });
    expect({ StatusCode, log: StatusCode === 0 ? '' : log.toString() }).toEqual({ StatusCode: 0, log: '' });
    const { Config } = await container.inspect();
    expect(Config.User).toBe('1000:1000');
  } finally {
    await container.remove({ force: true, v: true });
  }
});

test('is healthy while `berth doctor` finds nothing missing', async () => {
  const events = await docker.getEvents({ filters: { event: ['health_status'] } });
  const container = await create({
    Entrypoint: ['sleep', '300'],
    Healthcheck: { Interval: 1_000_000_000, StartPeriod: 30_000_000_000 },
  });
  try {
    await container.start();
    for await (const event of events) {
      const { id, status } = JSON.parse(`${event}`);
      if (id === container.id) {
        expect(status).toBe('health_status: healthy');
        break;
      }
    }
  } finally {
    await container.remove({ force: true, v: true });
  }
});
