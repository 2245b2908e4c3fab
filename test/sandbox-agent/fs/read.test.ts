import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, expect } from 'vitest';
import { readFile } from '../../../sandbox-agent/fs/read.ts';
import { limits } from '../../../src/protocol/limits.ts';
import { muxPair } from '../../support/mux-pair.ts';
import { test } from './folder.ts';
import { present, receiving } from './operation.ts';

const read = async (path: string, start = 0, end?: number) => {
  const range = end === undefined ? { start } : { start, end };
  const request = { type: 'fs.read', requestId: 1, path, ...range, stream: 1 } as const;
  return (await receiving((stream) => readFile(request, stream, present))).bytes;
};

describe('readFile', () => {
  test('sends every byte of a file that is larger than a window', async ({ folder }) => {
    const content = randomBytes(3 * limits.window + 17);
    await fs.writeFile(`${folder}/file`, content);
    expect((await read(`${folder}/file`)).equals(content)).toBe(true);
  });

  test.for([
    [0, 0],
    [0, 1],
    [3, 7],
    [5, undefined],
    [10, undefined],
    [11, undefined],
    [1_000_000, 2_000_000],
    [8, 3],
    [Number.MAX_SAFE_INTEGER, undefined],
  ] as const)('sends the range from %d to %o', async ([start, end], { folder }) => {
    await fs.writeFile(`${folder}/file`, '0123456789');
    expect((await read(`${folder}/file`, start, end)).toString()).toBe('0123456789'.slice(start, end));
  });

  test('reads files of /proc, which say that they are empty', async () => {
    expect((await read('/proc/self/status')).toString()).toMatch(/^Name:/);
    expect((await read('/proc/self/status', 0, 5)).toString()).toBe('Name:');
  });

  test('refuses what has no end or would never answer', async ({ folder }) => {
    execFileSync('mkfifo', [`${folder}/fifo`]);
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(`${folder}/socket`, resolve);
    });
    try {
      await expect(read(folder)).rejects.toMatchObject({ code: 'EISDIR' });
      await expect(read(`${folder}/fifo`)).rejects.toMatchObject({ code: 'ENOTSUP' });
      await expect(read('/dev/zero')).rejects.toMatchObject({ code: 'ENOTSUP' });
      await expect(read(`${folder}/socket`)).rejects.toMatchObject({ code: 'ENXIO' });
      await expect(read(`${folder}/no`)).rejects.toMatchObject({ code: 'ENOENT' });
    } finally {
      server.close();
    }
  });

  test('stops when the reader wants no more', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, Buffer.alloc(4 * limits.window));
    const { host, agent } = muxPair();
    const incoming = host.open({ send: false, receive: true });
    const stream = agent.accept(incoming.id, { send: true, receive: false });
    const request = { type: 'fs.read', requestId: 1, path: `${folder}/file`, start: 0, stream: 1 } as const;
    const reading = readFile(request, stream, present);
    await incoming.read();
    incoming.cancel();
    await expect(reading).rejects.toMatchObject({ code: 'wire_stream', meta: { reason: 'cancelled' } });
  });
});
