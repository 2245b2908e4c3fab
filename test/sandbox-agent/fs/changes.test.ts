import fc from 'fast-check';
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
  [
    ['rename a b', 'rename b c'],
    ['rename a b', 'rename b c'],
  ],
  [
    ['rename a b', 'remove b'],
    ['rename a b', 'remove b'],
  ],
  // The way of an editor: the old file aside, the new one in its place, the old one away.
  [
    ['create new', 'rename a old', 'rename new a', 'remove old'],
    ['rename a old', 'create a', 'remove old'],
  ],
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

test('whoever looks at each name that is told of knows what is there', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const step = fc.oneof(
    fc.record({ what: fc.constantFrom('create', 'arrive', 'change', 'remove', 'take'), name }),
    fc.record({ what: fc.constant('rename'), name, to: name }),
  );
  fc.assert(
    fc.property(fc.subarray(['a', 'b', 'c']), fc.array(step, { maxLength: 12 }), (there, steps) => {
      let contents = 0;
      const files = new Map(there.map((one) => [one, ++contents]));
      const known = new Map(files);
      const changes = new Changes();
      const follow = () => {
        for (const change of changes.take()) {
          if (change.type === 'overflow') throw new Error('too much');
          if (change.type === 'rename') known.delete(change.from);
          // It looks, and sees what is there by now.
          const content = change.type === 'remove' ? undefined : files.get(change.path);
          if (content === undefined) known.delete(change.path);
          else known.set(change.path, content);
        }
        expect(known).toEqual(files);
      };
      for (const step of steps) {
        const content = files.get(step.name);
        if (step.what === 'take') follow();
        else if (step.what === 'arrive' || (step.what === 'create' && content === undefined)) {
          files.set(step.name, ++contents);
          changes.create(step.name, false, step.what === 'arrive');
        } else if (step.what === 'change' && content !== undefined) {
          files.set(step.name, ++contents);
          changes.change(step.name, false);
        } else if (step.what === 'remove' && content !== undefined) {
          files.delete(step.name);
          changes.remove(step.name, false);
        } else if ('to' in step && content !== undefined && step.to !== step.name) {
          files.delete(step.name);
          files.set(step.to, content);
          changes.rename(step.name, step.to, false);
        }
      }
      follow();
    }),
    { numRuns: 2_000 },
  );
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
