import { expect, test } from 'vitest';
import { Turns } from '../../src/sandbox/turns.ts';

test('gives turns in the order in which they were asked for, those in the background last', async () => {
  const turns = new Turns(2);
  const order: string[] = [];
  const held = await Promise.all([turns.take(), turns.take()]);
  const asked = (['later', 'first', 'second'] as const).map(async (name) => {
    using _turn = await turns.take({ background: name === 'later' });
    order.push(name);
    await new Promise(setImmediate);
  });
  await new Promise(setImmediate);
  expect(order).toEqual([]);
  held[0]?.[Symbol.dispose]();
  await Promise.all(asked);
  expect(order).toEqual(['first', 'second', 'later']);
});

test('who gives up waiting holds up nobody', async () => {
  const turns = new Turns(1);
  const held = await turns.take();
  const abort = new AbortController();
  const waiting = turns.take({ signal: abort.signal });
  const next = turns.take();
  abort.abort('enough');
  await expect(waiting).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  await expect(turns.take({ signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
  held[Symbol.dispose]();
  using _turn = await next;
});
