import { promises as fs } from 'node:fs';
import type { FsGlob } from '../../src/protocol/fs.ts';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { nameBytes, nameOfBytes } from '../../src/protocol/names.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { Newest } from './newest.ts';
import { codeOf, kernelPath } from './path.ts';
import { globMatcher } from './pattern.ts';
import { RecordWriter } from './records.ts';
import { walk } from './walk.ts';

export interface Found {
  total: number;
  truncated: boolean;
}

/** A link counts as what it points to. What it points to is not searched, nor is `.git`. */
export async function glob(request: FsGlob, stream: WireStream, signal: AbortSignal): Promise<Found> {
  try {
    const matches = globMatcher(request.pattern);
    const newest = new Newest(request.limit);
    let total = 0;
    for await (const { path, location } of walk(
      nameOfBytes(await fs.realpath(kernelPath(request.path), 'buffer')),
      new Pace(signal),
    )) {
      if (!matches(path) || nameBytes(path) > limits.path) continue;
      const modifiedMs = await fileTime(location);
      if (modifiedMs === undefined) continue;
      total += 1;
      newest.add({ path, modifiedMs });
    }
    const records = new RecordWriter(stream, signal);
    for (const { path } of newest.inOrder()) await records.write({ path });
    await records.flush();
    stream.end();
    return { total, truncated: total > request.limit };
  } catch (error) {
    stream.reset();
    throw error;
  }
}

/** `undefined` for what is not a file, or is gone, or is a link to nothing. */
async function fileTime(location: Buffer): Promise<number | undefined> {
  try {
    const stats = await fs.stat(location);
    return stats.isFile() ? stats.mtimeMs : undefined;
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return undefined;
  }
}
