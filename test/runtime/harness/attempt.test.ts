import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import type { AttemptsFailedError } from '../../../src/runtime/errors.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { ofType } from '../../support/runtime.ts';
import { filesOf, inVirtual } from '../../support/virtual-run.ts';
import { gate } from '../model/conversation-of.ts';

const files = { 'a.txt': 'a', 'b.txt': 'b' };

describe('harness.attempt', () => {
  // contract: 11.2-forks, 11.2-choose, 11.2-events
  test('runs attempts side by side on forks of the files, and puts those of the chosen one in place', async () => {
    const all = gate();
    let begun = 0;
    const { result, events } = await inVirtual(files, async (root) => {
      const seen: unknown[] = [];
      const value = await root.attempt(
        async ({ harness, attempt, log }) => {
          if (++begun === 3) all.open();
          await all.promise; // all are at work
          await harness.shell(`printf ${attempt} >> a.txt; touch only-${attempt}`);
          log.info('worked');
          return { attempt, text: await harness.fs.readFile('a.txt') };
        },
        {
          count: 3,
          choose: (completed) => {
            seen.push(structuredClone(completed));
            for (const { value } of completed) value.text = 'changed';
            return 2;
          },
        },
      );
      return { value, seen, files: await filesOf(root) };
    });
    expect(result).toEqual({
      value: { attempt: 2, text: 'a2' },
      seen: [[1, 2, 3].map((attempt) => ({ attempt, value: { attempt, text: `a${attempt}` } }))],
      files: ['./a.txt=a2', './b.txt=b', './only-2='],
    });
    const began = ofType(events, 'action_start');
    expect(began.map(({ action, attempt }) => [action, attempt])).toEqual([1, 2, 3].map((n) => ['attempt', n]));
    expect(ofType(events, 'action')).toHaveLength(3);
    expect(ofType(events, 'log').find(({ message }) => message === 'worked')?.attributes).toMatchObject({
      action: 'attempt',
      attempt: expect.any(Number),
    });
    const operations = ofType(events, 'operation').filter(({ operationKind }) => operationKind === 'attempt');
    expect(operations).toMatchObject([{ isError: false, result: { attempt: 2 } }]);
    const ids = new Set(began.map(({ actionId, harness }) => `${harness} ${actionId}`));
    expect(ids.size).toBe(3);
  });

  // contract: 11.2-default
  test('keeps the first that completed, in their order, when nothing else is said', async () => {
    const second = gate();
    const { result } = await inVirtual(files, async (root) => {
      const value = await root.attempt(
        async ({ harness, attempt }) => {
          await harness.fs.writeFile('a.txt', `${attempt}`);
          if (attempt === 1) throw new Error('no good');
          if (attempt === 2) await second.promise;
          else second.open();
          return attempt;
        },
        { count: 3 },
      );
      return { value, once: await root.attempt(({ harness }) => harness.fs.rm('b.txt')), files: await filesOf(root) };
    });
    expect(result).toEqual({ value: 2, once: null, files: ['./a.txt=2'] });
  });

  // contract: 11.2-none
  test('fails with the error of the only one, or with those of all; nothing is changed', async () => {
    const { result } = await inVirtual(files, async (root) => {
      const fails = async ({ harness, attempt }: { harness: typeof root; attempt: number }): Promise<number> => {
        await harness.fs.writeFile('a.txt', 'changed');
        if (attempt === 2) return (await harness.sessions.get('none')) as never;
        throw new RangeError(`of ${attempt}`);
      };
      const one = await root.attempt(fails).catch((error: Error) => `${error.name} ${error.message}`);
      const two: AttemptsFailedError = await root.attempt(fails, { count: 2 }).catch((error) => error);
      const errors = two.errors.map(({ name, message }) => [name, message]);
      return { one, name: two.name, errors, files: await filesOf(root) };
    });
    expect(result).toEqual({
      one: 'RangeError of 1',
      name: 'AttemptsFailedError',
      errors: [
        ['RangeError', 'of 1'],
        ['SessionNotFoundError', expect.any(String)],
      ],
      files: ['./a.txt=a', './b.txt=b'],
    });
  });

  // contract: 11.2-checked
  test('refuses what is no attempt, and a choice that did not complete; a value has to be JSON', async () => {
    const { result } = await inVirtual(files, async (root) => {
      const refused: string[] = [];
      const note = (error: Error & { meta?: { reason?: string } }) =>
        void refused.push(`${error.name}: ${error.meta?.reason ?? error.message}`);
      const write = ({ harness }: { harness: typeof root }) => harness.fs.writeFile('a.txt', 'changed');
      for (const options of [
        { count: 0 },
        { count: 17 },
        { count: 1.5 },
        { choose: 1 as never },
        { best: 1 } as never,
        null as never,
      ]) {
        await root.attempt(write, options).catch(note);
      }
      await root.attempt(1 as never).catch(note);
      await root.attempt(write, { choose: () => 2 }).catch(note);
      await root.attempt(write, { choose: () => Object.create(null) }).catch(note);
      await root.attempt(write, { choose: () => Promise.reject(new Error('who knows')) }).catch(note);
      await root.attempt(async () => new Date() as never).catch(note);
      return { refused: refused.map((text) => text.split(' ').slice(0, 3).join(' ')), files: await filesOf(root) };
    });
    expect(result.files).toEqual(['./a.txt=a', './b.txt=b']);
    expect(result.refused).toEqual([
      ...Array(3).fill('InvalidRequestError: count is'),
      'InvalidRequestError: choose is',
      expect.stringContaining('InvalidRequestError: '),
      'InvalidRequestError: the options',
      'InvalidRequestError: an attempt',
      'InvalidRequestError: choose gave',
      'InvalidRequestError: choose gave',
      'Error: who knows',
      'ActionOutputSerializationError: The output',
    ]);
  });

  // contract: 11.2-conflict
  test('conflicts with what other work has changed meanwhile, and changes nothing then', async () => {
    const { result } = await inVirtual(files, async (root) => {
      const attempt = root.attempt(async ({ harness }) => {
        await root.fs.writeFile('a.txt', 'other');
        await harness.shell('echo mine > a.txt; echo mine > b.txt');
      });
      const error: Error & { meta?: unknown } = await attempt.then(
        () => Promise.reject(new Error('it was put in place')),
        (reason) => reason,
      );
      return { name: error.name, meta: error.meta, files: await filesOf(root) };
    });
    expect(result).toEqual({
      name: 'FilesConflictError',
      meta: { paths: ['a.txt'], count: 1 },
      files: ['./a.txt=other', './b.txt=b'],
    });
  });

  // contract: 11.2-abort
  test('ends all attempts when it is aborted, and changes nothing', async () => {
    const { result } = await inVirtual(files, async (root) => {
      const ended: number[] = [];
      const call = root.attempt(
        async ({ harness, attempt, signal }) => {
          signal.addEventListener('abort', () => ended.push(attempt));
          await harness.fs.writeFile('a.txt', 'changed');
          if (attempt === 2) call.abort('enough');
          await harness.shell('sleep 60');
        },
        { count: 2 },
      );
      const { name, cause } = await call.then(
        () => Promise.reject(new Error('it ended')),
        (error) => error,
      );
      return { name, cause, ended: ended.sort(), files: await filesOf(root) };
    });
    expect(result).toEqual({ name: 'AbortError', cause: 'enough', ended: [1, 2], files: ['./a.txt=a', './b.txt=b'] });
  });

  // contract: 11.2-depth
  test('is one level deeper, in the fork of an attempt, too', async () => {
    const { result } = await inVirtual(files, async (root) => {
      const nest = async (harness: typeof root, depth: number): Promise<number> => {
        await harness.fs.writeFile(`at-${depth}`, '');
        return harness
          .attempt((context) => nest(context.harness, depth + 1))
          .catch((error) => {
            if (error.name !== 'DelegationDepthExceededError') throw error;
            return depth;
          });
      };
      return { deepest: await nest(root, 0), files: (await filesOf(root)).length };
    });
    expect(result).toEqual({ deepest: 4, files: 7 });
  });

  // contract: 11.2-harness
  test('has a harness that lives as long as the attempt, and runs actions there', async () => {
    const act = defineAction({
      name: 'act',
      description: 'Acts.',
      output: v.string(),
      run: ({ harness }) => harness.fs.readFile('a.txt'),
    });
    const { result } = await inVirtual(files, async (root) => {
      let kept: typeof root | undefined;
      const value = await root.attempt(async ({ harness }) => {
        kept = harness;
        await harness.fs.writeFile('a.txt', 'in the fork');
        return harness.run(act);
      });
      const later = await kept?.shell('true').catch((error: Error) => error.name);
      return { value, later };
    });
    expect(result).toEqual({ value: 'in the fork', later: 'HarnessClosedError' });
  });

  // contract: 11.1-unsupported
  test('is refused with checkpoints in a sandbox that can not be forked', async () => {
    let begun = 0;
    const { result } = await inVirtual(
      files,
      async (root) => {
        const work = () => void begun++;
        const calls = [root.attempt(work).catch((error) => error), root.checkpoint().catch((error) => error)];
        return (await Promise.all(calls)).map(({ name, meta }) => [name, meta.supportedBy]);
      },
      { sandbox: { createSandbox: (request) => local().createSandbox(request) } },
    );
    const refused = ['SandboxOperationUnsupportedError', ['docker()', 'virtual()']];
    expect([result, begun]).toEqual([[refused, refused], 0]);
  });
});

describe('harness.checkpoint', () => {
  // contract: 11.3-rollback
  test('puts the files back as they were, any number of times', async () => {
    const { result } = await inVirtual(files, async (root) => {
      await root.shell('mkdir d; echo in-d > d/file; ln -s a.txt link; chmod 750 d');
      const before = await filesOf(root);
      const checkpoint = await root.checkpoint();
      const seen: unknown[] = [];
      for (const _ of [1, 2]) {
        await root.shell('rm -r d link a.txt; echo file > d; mkdir a.txt; touch a.txt/new; chmod 600 b.txt');
        await checkpoint.rollback();
        seen.push(await filesOf(root), (await root.shell('readlink link; stat -c %a d b.txt')).stdout);
      }
      await root.shell('echo elsewhere > /elsewhere');
      await checkpoint.rollback();
      return { before, seen, elsewhere: await root.fs.exists('/elsewhere') };
    });
    const there = [result.before, 'a.txt\n750\n644\n'];
    expect(result).toEqual({ before: result.before, seen: [...there, ...there], elsewhere: true });
  });

  // contract: 11.3-until-end
  test('is kept until its harness ends', async () => {
    const { result } = await inVirtual(files, async (root) => {
      let inner: { rollback(): Promise<void> } | undefined;
      const act = defineAction({
        name: 'act',
        description: 'Acts.',
        run: async ({ harness }) => {
          inner = await harness.checkpoint();
          await harness.fs.writeFile('a.txt', 'changed');
        },
      });
      await root.run(act);
      const later = await inner?.rollback().catch((error: Error) => error.name);
      return { later, refused: await root.checkpoint({ name: 'x' } as never).catch((error: Error) => error.name) };
    });
    expect(result).toEqual({ later: 'HarnessClosedError', refused: 'InvalidRequestError' });
  });
});
