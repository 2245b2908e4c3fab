import { finished } from 'node:stream/promises';
import { expect, test } from 'vitest';
import { duplexOf } from '../../src/protocol/duplex.ts';
import { limits } from '../../src/protocol/limits.ts';
import { muxPair } from '../support/mux-pair.ts';

test('what came before the other side ended is there to be read also when it takes no more of what is written', async () => {
  const { host, agent } = muxPair();
  const both = { send: true, receive: true };
  const stream = host.open(both);
  const duplex = duplexOf(agent.accept(stream.id, both));
  duplex.write(new Uint8Array(2 * limits.window)); // more than is taken
  await stream.write(new Uint8Array(limits.window / 2));
  stream.end();
  const ended = finished(duplex, { readable: false });
  ended.catch(() => {}); // looked at below
  stream.cancel();
  let read = 0;
  for await (const chunk of duplex.iterator({ destroyOnReturn: false })) {
    read += (chunk as Buffer).length;
    await new Promise((done) => setImmediate(done));
  }
  expect(read).toBe(limits.window / 2);
  await expect(ended).rejects.toMatchObject({ meta: { reason: 'cancelled' } });
});
