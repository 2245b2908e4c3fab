import { expect, test } from 'vitest';
import { Changes } from '../../../sandbox-agent/fs/changes.ts';

/** Each step is `create a`, `rename a b`; a name with a slash at its end is a directory. */
function after(...steps: string[]): string[] {
  const changes = new Changes();
  for (const step of steps) {
    const [what, ...names] = step.split(' ');
    const isDirectory = step.endsWith('/');
    const [from = '', to = ''] = names.map((name) => name.replace(/\/$/, ''));
    if (what === 'rename') changes.rename(from, to, isDirectory);
    else if (what === 'create' || what === 'change' || what === 'remove') changes[what](from, isDirectory);
  }
  return changes.take().map((change) => {
    if (change.type === 'overflow') return 'overflow';
    const path = `${change.path}${change.directory ? '/' : ''}`;
    return change.type === 'rename' ? `rename ${change.from} ${path}` : `${change.type} ${path}`;
  });
}

test.for<[steps: string[], expected: string[]]>([
  [['create a', 'change a', 'change a'], ['create a']],
  [
    ['change a', 'change b', 'change a'],
    ['change b', 'change a'],
  ],
  [['create a', 'remove a'], []],
  [['change a', 'remove a'], ['remove a']],
  [['remove a', 'create a'], ['change a']],
  [['remove a', 'create a/'], ['create a/']],
  [['create a', 'rename a b'], ['create b']],
  [
    ['change a', 'rename a b'],
    ['rename a b', 'change b'],
  ],
  [
    ['rename a b', 'change b'],
    ['rename a b', 'change b'],
  ],
  [['rename a b', 'rename b c'], ['rename a c']],
  [['rename a b', 'rename b a'], ['change a']],
  [['rename a b', 'remove b'], ['remove a']],
  [
    ['rename a b', 'create a'],
    ['rename a b', 'create a'],
  ],
  [['remove b', 'create a', 'rename a b'], ['change b']],
  [
    ['create a/', 'create a/x', 'rename a b/', 'change b/x'],
    ['create a/', 'create a/x', 'rename a b/', 'change b/x'],
  ],
  [
    ['change a/x', 'rename a b/', 'remove b/x'],
    ['change a/x', 'rename a b/', 'remove b/x'],
  ],
])('%j are told as %j', ([steps, expected]) => {
  expect(after(...steps)).toEqual(expected);
});

test('too many are given up, and what comes after them is kept', () => {
  const changes = new Changes();
  for (let i = 0; i < 30_000; i += 1) changes.create(`file-${i}`, false);
  const taken = changes.take();
  expect(taken[0]).toEqual({ type: 'overflow' });
  expect(taken.at(-1)).toEqual({ type: 'create', path: 'file-29999', directory: false });
  expect(taken.length).toBeLessThan(20_000);
  expect(changes.isEmpty).toBe(true);
  for (let i = 0; i < 2_000; i += 1) changes.change(`${'long/'.repeat(800)}${i}`, false);
  expect(changes.take()[0]).toEqual({ type: 'overflow' });
});
