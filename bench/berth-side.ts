// A sandbox of Berth, in comparisons of commands and files.

import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { SandboxHost } from 'berth/sandbox';
import { serveSide } from './side.ts';
import { countPrinted, hostFiles, print, small } from './work.ts';

const { big, tree, copy } = hostFiles(process.argv[2] ?? '');
await using host = await SandboxHost.open();
await using sandbox = await host.create();
let trees = 0;

await serveSide({
  true: () => sandbox.exec(['true']),
  print: async () => {
    const printing = await sandbox.spawn(print);
    await Promise.all([pipeline(printing.stdout, countPrinted), printing.wait()]);
  },
  upload: () => pipeline(createReadStream(big), sandbox.fs.createWriteStream('/tmp/files/big')),
  download: () => sandbox.fs.downloadTo('/tmp/files/big', copy),
  write: () => sandbox.fs.writeFile('/tmp/files/small', small),
  read: () => sandbox.fs.readFileBuffer('/tmp/files/small'),
  'upload a tree': () => sandbox.fs.upload(tree, `/tmp/files/${trees++}`),
});
