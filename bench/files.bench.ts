// Files to and from a sandbox, against the archives of the engine's API.

import { spawn } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { SandboxHost } from 'berth/sandbox';
import { extract, pack } from 'tar-stream';
import { compare } from './compare.ts';
import { startContainer } from './container.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const rounds = 5;

const directory = await mkdtemp(join(tmpdir(), 'berth-bench-'));
try {
  await using host = await SandboxHost.open();
  await using sandbox = await host.create();
  // Directories for each turn of the upload, the warm-up included: files that are there already would be replaced, which is other work.
  await using container = await startContainer(`mkdir /tmp/files; cd /tmp/files; seq 0 99 | xargs mkdir`);

  const big = join(directory, 'big');
  await writeFile(big, Buffer.alloc(256 * MiB, 'berth'));
  await compare(
    '256 MiB upload',
    {
      berth: () => pipeline(createReadStream(big), sandbox.fs.createWriteStream('/tmp/files/big')),
      putArchive: async () => {
        const archive = pack();
        const sent = container.putArchive(Readable.from(archive), { path: '/tmp/files' });
        await pipeline(createReadStream(big), archive.entry({ name: 'big', size: 256 * MiB }));
        archive.finalize();
        await sent;
      },
    },
    { rounds },
  );

  const copy = join(directory, 'copy');
  const getArchive = async (path: string, to: string) => {
    const files = extract();
    const received = pipeline(await container.getArchive({ path }), files);
    for await (const file of files) await pipeline(file, createWriteStream(to));
    await received;
  };
  await compare(
    '256 MiB download to a host file',
    {
      berth: () => pipeline(sandbox.fs.createReadStream('/tmp/files/big'), createWriteStream(copy)),
      getArchive: () => getArchive('/tmp/files/big', copy),
      'getArchive, the tar as it is': async () => {
        await pipeline(await container.getArchive({ path: '/tmp/files/big' }), createWriteStream(copy));
      },
    },
    { rounds },
  );

  const small = Buffer.alloc(4 * KiB, 'berth');
  const write = {
    berth: () => sandbox.fs.writeFile('/tmp/files/small', small),
    putArchive: async () => {
      const archive = pack();
      archive.entry({ name: 'small' }, small);
      archive.finalize();
      await container.putArchive(Readable.from(archive), { path: '/tmp/files' });
    },
  };
  const read = {
    berth: () => sandbox.fs.readFileBuffer('/tmp/files/small'),
    getArchive: async () => {
      const files = extract();
      const received = pipeline(await container.getArchive({ path: '/tmp/files/small' }), files);
      for await (const file of files) for await (const _ of file);
      await received;
    },
  };
  await compare('write 4 KiB, one at a time', write, { rounds: 20, inARow: 10 });
  await compare('read 4 KiB, one at a time', read, { rounds: 20, inARow: 10 });
  // Each call right behind one of the other row: the engine still clears up, and what Berth needs is cold.
  await compare('write 4 KiB, in turn', write, { rounds: 50 });
  await compare('read 4 KiB, in turn', read, { rounds: 50 });

  const tree = join(directory, 'tree');
  for (let folder = 0; folder < 100; folder++) {
    await mkdir(join(tree, `${folder}`), { recursive: true });
    for (let file = 0; file < 100; file++) await writeFile(join(tree, `${folder}/${file}`), small);
  }
  let mine = 0;
  let engines = 0;
  await compare(
    '10,000 files of 4 KiB, upload',
    {
      berth: () => sandbox.fs.upload(tree, `/tmp/files/${mine++}`),
      'putArchive of what tar packs': async () => {
        const tar = spawn('tar', ['-C', tree, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
        await container.putArchive(tar.stdout, { path: `/tmp/files/${engines++}` });
      },
    },
    { rounds },
  );
} finally {
  await rm(directory, { recursive: true });
}
