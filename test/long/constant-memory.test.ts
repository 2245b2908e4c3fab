import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, onTestFinished } from 'vitest';
import { packDirectory } from '../../src/sandbox/fs/pack-directory.ts';
import { test } from '../support/sandbox-fixture.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const bytes = 10 * 1024 * MiB;
/** Grown heaps and garbage of the 10 GiB: what was kept of each chunk, be it 1 %, would be more. */
const allowed = 96 * MiB;

/** The most that this process has in memory above what it has after the first 256 MiB of `streaming`. */
async function growth(streaming: (onChunk: (chunk: Uint8Array) => void) => Promise<unknown>): Promise<number> {
  let passed = 0;
  let atFirst = 0;
  let most = 0;
  await streaming((chunk) => {
    passed += chunk.length;
    // Reading it takes some microseconds: not at every chunk.
    if (passed % (4 * MiB) >= chunk.length) return;
    const { rss } = process.memoryUsage;
    if (passed < 256 * MiB) atFirst = Math.max(atFirst, rss());
    else most = Math.max(most, rss());
  });
  expect(passed).toBeGreaterThanOrEqual(bytes);
  return most - atFirst;
}

async function* watched(chunks: AsyncIterable<Buffer> | Iterable<Buffer>, onChunk: (chunk: Uint8Array) => void) {
  for await (const chunk of chunks) {
    yield chunk;
    onChunk(chunk);
  }
}

function* zeros(pieceBytes: number): Generator<Buffer> {
  const piece = Buffer.alloc(pieceBytes);
  for (let sent = 0; sent < bytes; sent += pieceBytes) yield piece;
}

// Less memory than 1 % of what goes through it: the sandbox holds nothing either.
const limits = { memory: 256 * MiB };

test('10 GiB of output', async ({ host }) => {
  await using sandbox = await host.create({ limits });
  const grown = await growth(async (onChunk) => {
    const printing = await sandbox.spawn(['head', '-c', `${bytes}`, '/dev/zero']);
    for await (const chunk of printing.stdout) onChunk(chunk);
    expect(await printing.wait()).toMatchObject({ exitCode: 0, stdoutBytes: bytes, oomKilled: false });
  });
  expect(grown).toBeLessThan(allowed);
});

test('10 GiB of input, in small pieces', async ({ host }) => {
  await using sandbox = await host.create({ limits });
  const grown = await growth(async (onChunk) => {
    const result = await sandbox.exec(['wc', '-c'], { stdin: watched(zeros(16 * KiB), onChunk) });
    expect(result).toMatchObject({ stdout: `${bytes}\n`, oomKilled: false });
  });
  expect(grown).toBeLessThan(allowed);
});

test('10 GiB uploaded, then downloaded', async ({ host }) => {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  // It takes no room here, but as much as its size in the sandbox.
  const file = await open(join(folder, 'big'), 'w');
  await file.truncate(bytes);
  await file.close();
  await using sandbox = await host.create({ limits });

  const up = await growth((onChunk) =>
    sandbox.fs.upload(Readable.from(watched(packDirectory(folder), onChunk)), '/tmp/tree'),
  );
  const down = await growth(async (onChunk) => {
    for await (const chunk of sandbox.fs.download('/tmp/tree')) onChunk(chunk);
  });
  expect([up, down].filter((grown) => grown >= allowed)).toEqual([]);
  expect(await sandbox.exec('true')).toMatchObject({ oomKilled: false });
});
