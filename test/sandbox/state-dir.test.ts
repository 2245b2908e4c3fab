import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { StateDir } from '../../src/sandbox/state-dir.ts';

async function openTwice(): Promise<StateDir[]> {
  const path = await mkdtemp(join(tmpdir(), 'berth-test-state-'));
  const opened = [await StateDir.open(path), await StateDir.open(path)];
  onTestFinished(async () => {
    for (const state of opened) state.close();
    await rm(path, { recursive: true, force: true });
  });
  return opened;
}

test('a key that a dead process had is taken by one at a time', async () => {
  const states = await openTwice();
  for (let round = 0; round < 5; round++) {
    await writeFile(join(states[0]?.path ?? '', 'keys', `key${round}`), 'dead');
    let holders = 0;
    let most = 0;
    const takers = [...states, ...states, ...states, ...states].map(async (state, index) => {
      // So that some look at the dead one while others take it.
      for (let turn = 0; turn < index * 3; turn++) await new Promise(setImmediate);
      await using _lock = await state.lock(`key${round}`);
      most = Math.max(most, ++holders);
      await new Promise(setImmediate);
      holders--;
    });
    await Promise.all(takers);
    expect(most).toBe(1);
  }
});

test('who waits for a key can give up', async () => {
  const [one, two] = await openTwice();
  await using _lock = await one?.lock('key');
  const waiting = two?.lock('key', AbortSignal.timeout(50));
  await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
});
