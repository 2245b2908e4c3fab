import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test } from 'vitest';
import { DockerEngine } from '../../src/engine/docker/docker.ts';
import type { ContainerEvent } from '../../src/engine/engine.ts';
import { EngineUnreachableError } from '../../src/engine/socket.ts';
import { ExecStream } from '../../src/engine/transport/exec.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import { openHost } from '../support/sandbox-fixture.ts';

test('tells what happens to a container, in order', async () => {
  await using opened = await openHost();
  const sandbox = await opened.host.create();
  const engine = await DockerEngine.open({ labels: {} });
  const kinds: ContainerEvent['kind'][] = [];
  const watching = (async () => {
    for await (const { kind } of engine.events({ 'berth.sandbox': sandbox.id }, new AbortController().signal)) {
      kinds.push(kind);
      if (kind === 'remove') return;
    }
  })();
  // The engine answers a request for events at the first event.
  await sandbox.pause();
  while (kinds.length === 0) {
    await sandbox.resume();
    await sandbox.pause();
  }
  await sandbox.resume();
  await sandbox.remove();
  await watching;
  expect(kinds.slice(-3)).toEqual(['resume', 'end', 'remove']);
});

test('an engine that goes away is told of by every call', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-state-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const opening = SandboxHost.open({ stateDir, docker: { host: '127.0.0.1', port: 1, protocol: 'http' } });
  await expect(opening).rejects.toBeInstanceOf(EngineUnreachableError);
});

describe('the exec stream', () => {
  /** Docker's frame: 1 the output, 2 the errors. */
  const piece = (kind: number, text: string) => {
    const header = Buffer.alloc(8);
    header[0] = kind;
    header.writeUInt32BE(Buffer.byteLength(text), 4);
    return Buffer.concat([header, Buffer.from(text)]);
  };

  test('gives the output without its headers, wherever the network cut them', async () => {
    const bytes = Buffer.concat([piece(1, 'one '), piece(2, 'noise'), piece(1, ''), piece(1, 'two')]);
    for (let size = 1; size <= bytes.length; size++) {
      const connection = new PassThrough();
      const errors: Buffer[] = [];
      const stream = new ExecStream(connection, (chunk) => errors.push(chunk));
      for (let at = 0; at < bytes.length; at += size) connection.write(bytes.subarray(at, at + size));
      connection.end();
      expect((await buffer(stream)).toString()).toBe('one two');
      expect(Buffer.concat(errors).toString()).toBe('noise');
    }
  });

  test('a reader that stops, stops the engine', async () => {
    let sent = 0;
    const endless = new Duplex({
      read() {
        sent++;
        this.push(piece(1, 'x'.repeat(10_000)));
      },
      write(_chunk, _encoding, done) {
        done();
      },
    });
    const stream = new ExecStream(endless, () => {});
    await new Promise((resolve) => stream.once('readable', resolve));
    await new Promise(setImmediate);
    expect(sent).toBeLessThan(50);
    stream.destroy();
  });
});
