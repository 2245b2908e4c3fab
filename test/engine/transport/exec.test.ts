import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { ExecStream } from '../../../src/engine/transport/exec.ts';

test('closes when the command has ended, also while nobody takes what is being written', async () => {
  const connection = new Duplex({ read() {}, write() {} }); // never says that a write is done
  const stream = new ExecStream(connection, () => {});
  stream.resume().write('something');
  connection.push(null);
  await once(stream, 'close');
  expect(connection.destroyed).toBe(true);
});
