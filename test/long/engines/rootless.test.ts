import { chown, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LimitUnsupportedError } from '../../../src/engine/errors.ts';
import { testSandboxes } from './behaviour.ts';
import { type HostOnEngine, openHostOn } from './host-on-engine.ts';
import { install, reasonToSkipRootless, type SecondEngine, startEngine, startPodman } from './second-engine.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const isCgroup2 = await stat('/sys/fs/cgroup/cgroup.controllers').then(
  () => true,
  () => false,
);

const engines = {
  'rootless Docker': {
    programs: { newuidmap: 'uidmap', rootlesskit: 'rootlesskit' },
    start: () => startEngine({ isRootless: true }),
  },
  'rootless Podman': {
    programs: { newuidmap: 'uidmap', podman: 'podman', crun: 'crun' },
    start: () => startPodman({ isRootless: true }),
  },
};
const why = reasonToSkipRootless === undefined ? '' : `: ${reasonToSkipRootless}`;

describe.skipIf(reasonToSkipRootless !== undefined).each(Object.entries(engines))(
  `%s${why}`,
  (_, { programs, start }) => {
    let engine: SecondEngine;
    let opened: HostOnEngine;
    /** Of root, whose state directory the engine does not see. */
    let openedByRoot: HostOnEngine;
    beforeAll(async () => {
      await install(programs);
      engine = await start();
      opened = await openHostOn(engine);
      openedByRoot = await openHostOn({ address: engine.address, docker: engine.docker });
    }, 300_000);
    afterAll(async () => {
      await openedByRoot?.[Symbol.asyncDispose]();
      await opened?.[Symbol.asyncDispose]();
      await engine?.[Symbol.asyncDispose]();
    });

    describe('over the socket', () => {
      testSandboxes(
        () => opened.host,
        (id) => opened.wireOf(id),
        { wire: 'unix', canPause: isCgroup2 },
      );
    });
    describe('over its stream', () => {
      testSandboxes(
        () => openedByRoot.host,
        (id) => openedByRoot.wireOf(id),
        { wire: 'exec', canPause: isCgroup2 },
      );
    });

    test('files in a directory of the machine belong to its user', async () => {
      const { uid = 0, gid = 0 } = engine.owner ?? {};
      const folder = await mkdtemp(join(tmpdir(), 'berth-test-bind-'));
      try {
        await chown(folder, uid, gid);
        await using sandbox = await opened.host.create({ workspace: { bind: folder } });
        expect((await sandbox.exec('touch command && id -u')).stdout).toBe('0\n');
        await sandbox.fs.writeFile('call', 'content');
        for (const path of [folder, join(folder, 'command'), join(folder, 'call')]) {
          expect(await stat(path)).toMatchObject({ uid, gid });
        }
      } finally {
        await rm(folder, { recursive: true });
      }
    });

    // With version 2 it depends on what systemd gives to the user.
    test.skipIf(isCgroup2)(
      'limits are off, which is refused or told, and found before; so are a pause and stats',
      async () => {
        for (const limits of [{ memory: 256 * 1024 ** 2 }, { cpus: 1 }, { pids: 50 }]) {
          await expect(opened.host.create({ limits })).rejects.toBeInstanceOf(LimitUnsupportedError);
        }
        await using sandbox = await opened.host.create();
        expect(await sandbox.info()).toMatchObject({ unlimited: ['memory', 'cpus', 'pids', 'disk'] });
        // There is no cgroup to look at: what the engine would say is of the machine.
        await expect(sandbox.stats()).rejects.toMatchObject({ code: 'engine_error' });
        await expect(sandbox.pause()).rejects.toMatchObject({ code: 'engine_error' });
        expect((await sandbox.exec('echo goes on')).stdout).toBe('goes on\n');
        const DOCKER_HOST = `unix://${engine.address.socketPath}`;
        const { stdout } = await execa(process.execPath, ['dist/cli/main.js', 'doctor', '--json'], {
          cwd: root,
          env: { DOCKER_HOST },
        });
        expect(JSON.parse(stdout)).toMatchObject({
          ok: true,
          findings: expect.arrayContaining([
            expect.objectContaining({ name: 'container engine', detail: expect.stringContaining('rootless') }),
            expect.objectContaining({
              name: 'limits',
              warning: true,
              detail: expect.stringContaining('memory, cpus, pids'),
            }),
          ]),
        });
      },
    );
  },
);
