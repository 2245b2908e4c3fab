import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { TooManyStreamsError } from '../../../src/protocol/errors.ts';
import { Gateway } from '../../../src/sandbox/network/gateway.ts';
import { networkPolicy } from '../../../src/sandbox/network/policy.ts';
import type { Wire } from '../../../src/sandbox/wire.ts';

test('while the wire has no room for a connection, none is taken, and nothing else is held up', async () => {
  let tries = 0;
  const wire = {
    isOpen: true,
    openStream() {
      tries++;
      throw new TooManyStreamsError({ limit: 4_096 });
    },
    call: async () => ({ type: 'ok' }),
  };
  const outside = {
    resolve: async () => [],
    authority: async () => {
      throw new Error('nobody needs it');
    },
    ca: undefined,
  };
  const gateway = new Gateway(
    wire as unknown as Wire,
    outside,
    () => '',
    () => {},
  );
  await gateway.set(v.parse(networkPolicy, { allow: ['example.com'] }), { takesOver: true });
  await sleep(100);
  wire.isOpen = false;
  expect(tries).toBeGreaterThan(0);
  expect(tries).toBeLessThan(50);
});
