import { constants } from 'node:fs';
import type { FsRead } from '../../src/protocol/fs.ts';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { calls } from './calls.ts';
import { openRegularFile } from './regular-file.ts';

const probeBytes = 4 * 1024;

/** Sends a file, as far as it reaches when its end is read: the size that it says may be wrong, in /proc it is 0. */
export async function readFile(request: FsRead, stream: WireStream, signal: AbortSignal): Promise<void> {
  try {
    const [file, stats] = await openRegularFile(request.path, constants.O_RDONLY);
    /** Of pieces that the host has. */
    const spare: Buffer[] = [];
    try {
      const end = request.end ?? Number.MAX_SAFE_INTEGER;
      for (let at = request.start; at < end; ) {
        const granted = stream.sendable || (await stream.credit(signal));
        // A byte more than there should be: who gets less is at the end.
        const expected = Math.max(stats.size - at + 1, probeBytes);
        // A buffer of its own for each piece: it belongs to the stream until the host has it.
        const length = Math.min(granted, expected, end - at, limits.data);
        const memory = spare.pop() ?? Buffer.allocUnsafe(Math.min(expected, end - at, limits.data));
        const buffer = memory.subarray(0, length);
        const bytesRead = await calls.read(file, buffer, at);
        if (bytesRead > 0) stream.send(buffer.subarray(0, bytesRead), () => spare.push(memory));
        at += bytesRead;
        const isAtEnd = stats.size > 0 && at >= stats.size && bytesRead < buffer.length;
        if (bytesRead === 0 || isAtEnd) break;
      }
    } finally {
      await calls.close(file);
    }
    stream.end();
  } catch (error) {
    stream.reset();
    throw error;
  }
}
