// A container without Berth, in comparisons of commands and files: what the engine's API offers for the same.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, pack } from 'tar-stream';
import { docker, engineExec, startContainer } from './container.ts';
import { serveSide } from './side.ts';
import { bigBytes, countPrinted, hostFiles, print, small } from './work.ts';

const { big, tree, copy } = hostFiles(process.argv[2] ?? '');
// Directories for each turn of the upload, the warm-up included: files that are there already would be replaced, which is other work.
await using container = await startContainer(`mkdir /tmp/files; cd /tmp/files; seq 0 99 | xargs mkdir`);
let trees = 0;

await serveSide({
  true: () => engineExec(container, ['true']),
  print: async () => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    await Promise.all([
      pipeline(stdout, countPrinted),
      engineExec(container, print, async (stream) => {
        docker.modem.demuxStream(stream, stdout, stderr);
        await once(stream, 'end');
        stdout.end();
      }),
    ]);
  },
  upload: async () => {
    const archive = pack();
    const sent = container.putArchive(Readable.from(archive), { path: '/tmp/files' });
    await pipeline(createReadStream(big), archive.entry({ name: 'big', size: bigBytes }));
    archive.finalize();
    await sent;
  },
  download: async () => {
    const files = extract();
    const received = pipeline(await container.getArchive({ path: '/tmp/files/big' }), files);
    for await (const file of files) await pipeline(file, createWriteStream(copy));
    await received;
  },
  'download, the tar as it is': async () => {
    await pipeline(await container.getArchive({ path: '/tmp/files/big' }), createWriteStream(copy));
  },
  write: async () => {
    const archive = pack();
    archive.entry({ name: 'small' }, small);
    archive.finalize();
    await container.putArchive(Readable.from(archive), { path: '/tmp/files' });
  },
  read: async () => {
    const files = extract();
    const received = pipeline(await container.getArchive({ path: '/tmp/files/small' }), files);
    for await (const file of files) for await (const _ of file);
    await received;
  },
  'upload a tree': async () => {
    const tar = spawn('tar', ['-C', tree, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
    await container.putArchive(tar.stdout, { path: `/tmp/files/${trees++}` });
  },
});
