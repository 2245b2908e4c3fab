// Commands and their output, against the engine's own way to run them and against no sandbox at all.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { compare } from './compare.ts';
import { openSide } from './side.ts';

await using berth = await openSide('berth-side.ts');
await using engine = await openSide('engine-side.ts');

const rows = { berth: berth.turn('true'), 'dockerode exec': engine.turn('true') };
await compare('exec true, one at a time', { ...rows, 'local spawn': localSpawn }, { rounds: 20, inARow: 10 });
// Each call right behind one of the other row: the engine still clears up, and what Berth needs is cold.
await compare('exec true, one at a time, in turn', rows, { rounds: 100 });
await compare('exec true, 50 at once', rows, { rounds: 10, atOnce: 50 });
await compare(
  '1 GiB of stdout to a consumer',
  { berth: berth.turn('print'), 'dockerode exec, demuxed': engine.turn('print') },
  { rounds: 5 },
);

async function localSpawn(): Promise<void> {
  await once(spawn('true', { stdio: ['ignore', 'pipe', 'pipe'] }), 'close');
}
