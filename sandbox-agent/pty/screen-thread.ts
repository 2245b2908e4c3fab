import { parentPort } from 'node:worker_threads';
import { Emulator, type Restored } from './emulator.ts';
import type { Batch, Done } from './screen.ts';

// A program of its own: the sandbox-agent loads it into a thread when its first terminal is opened.

const emulators = new Map<number, Emulator>();

/** One batch of a screen at a time comes here. */
async function carryOut({ screen, operations }: Batch): Promise<Done> {
  const restored: (Restored | undefined)[] = [];
  for (const operation of operations) {
    const emulator = emulators.get(screen);
    switch (operation.type) {
      case 'open':
        emulators.set(screen, new Emulator(operation.size));
        break;
      case 'write':
        await emulator?.write(operation.bytes);
        break;
      case 'resize':
        emulator?.resize(operation.size);
        break;
      case 'restore':
        restored.push(emulator?.restore(operation.maxBytes));
        break;
      case 'close':
        emulators.delete(screen);
        break;
    }
  }
  return { screen, restored };
}

parentPort?.on('message', async (batch: Batch) => parentPort?.postMessage(await carryOut(batch)));
