import { expect, test } from 'vitest';
import { pauseContainer } from '../../src/engine/docker/pause.ts';
import { fakeEngine } from '../support/fake-engine.ts';

const unable = 'Cannot pause container c: OCI runtime pause failed: unable to freeze: unknown';

/** A container of an engine that refuses to pause it with these messages, one for each time that it is asked. */
async function refusing(messages: string[]) {
  let asked = 0;
  const engine = await fakeEngine((_, response) => {
    const message = messages[asked++];
    response.statusCode = message === undefined ? 204 : 500;
    response.end(message === undefined ? '' : JSON.stringify({ message }));
  });
  return { container: engine.getContainer('c'), asked: () => asked };
}

test('a container that was too busy to freeze is paused all the same', async () => {
  const { container, asked } = await refusing([unable, unable]);
  await pauseContainer(container);
  expect(asked()).toBe(3);
});

test('one that never freezes, or can not be paused for another reason, says so', async () => {
  const busy = await refusing(Array<string>(10).fill(unable));
  await expect(pauseContainer(busy.container)).rejects.toThrow('unable to freeze');
  expect(busy.asked()).toBe(5);
  const stopped = await refusing(['Container c is not running']);
  await expect(pauseContainer(stopped.container)).rejects.toThrow('is not running');
  expect(stopped.asked()).toBe(1);
});
