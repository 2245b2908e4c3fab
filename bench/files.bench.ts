// Files to and from a sandbox, against the archives of the engine's API.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare } from './compare.ts';
import { openSide } from './side.ts';
import { bigBytes, hostFiles, small } from './work.ts';

const rounds = 5;

const directory = await mkdtemp(join(tmpdir(), 'berth-bench-'));
try {
  const { big, tree } = hostFiles(directory);
  await writeFile(big, Buffer.alloc(bigBytes, 'berth'));
  for (let folder = 0; folder < 100; folder++) {
    await mkdir(join(tree, `${folder}`), { recursive: true });
    for (let file = 0; file < 100; file++) await writeFile(join(tree, `${folder}/${file}`), small);
  }
  await using berth = await openSide('berth-side.ts', directory);
  await using engine = await openSide('engine-side.ts', directory);

  await compare('256 MiB upload', { berth: berth.turn('upload'), putArchive: engine.turn('upload') }, { rounds });
  await compare(
    '256 MiB download to a host file',
    {
      berth: berth.turn('download'),
      getArchive: engine.turn('download'),
      'getArchive, the tar as it is': engine.turn('download, the tar as it is'),
    },
    { rounds },
  );

  const write = { berth: berth.turn('write'), putArchive: engine.turn('write') };
  const read = { berth: berth.turn('read'), getArchive: engine.turn('read') };
  await compare('write 4 KiB, one at a time', write, { rounds: 20, inARow: 10 });
  await compare('read 4 KiB, one at a time', read, { rounds: 20, inARow: 10 });
  // Each call right behind one of the other row: the engine still clears up, and what Berth needs is cold.
  await compare('write 4 KiB, in turn', write, { rounds: 50 });
  await compare('read 4 KiB, in turn', read, { rounds: 50 });
  await compare(
    '10,000 files of 4 KiB, upload',
    { berth: berth.turn('upload a tree'), 'putArchive of what tar packs': engine.turn('upload a tree') },
    { rounds },
  );
} finally {
  await rm(directory, { recursive: true });
}
