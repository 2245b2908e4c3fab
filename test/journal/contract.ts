import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test as withoutStore } from 'vitest';
import { StoreError, WriteRefusedError } from '../../src/journal/errors.ts';
import type { Entry, Lease, Owner, Store } from '../../src/journal/store.ts';

/** What every store does alike, shown on one that `open` makes. */
export function storeContract(name: string, open: (directory: string) => Promise<Store>): void {
  const test = withoutStore.extend<{ store: Store }>({
    // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of the fixtures that this one needs
    store: async ({}, use) => {
      const directory = await mkdtemp(join(tmpdir(), 'berth-test-'));
      const store = await open(directory);
      await use(store);
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  });

  describe(name, () => {
    test('takes a run in once: the same id gives the first one, also when asked at once', async ({ store }) => {
      const run = { id: 'run_1', workflow: 'fix', json: '{"input":1}' };
      const both = await Promise.all([store.admitRun(run), store.admitRun({ ...run, json: '{"input":2}' })]);
      const row = { ...run, state: 'queued', attempt: 0, seq: expect.any(Number) };
      expect(both).toEqual([
        { isNew: true, row },
        { isNew: false, row },
      ]);
      expect(await store.run('run_1')).toEqual(both[0].row);
      expect(await store.run('run_2')).toBeUndefined();
    });

    test('lists runs newest first, by state and workflow, page by page', async ({ store }) => {
      for (const id of ['a', 'b', 'c', 'd']) {
        await store.admitRun({ id, workflow: id === 'b' ? 'other' : 'fix', json: '{}' });
      }
      await write(store, { run: 'c' }, { kind: 'run', state: 'running', progress: '{}' });
      const ids = async (query: Parameters<Store['runs']>[0]) => (await store.runs(query)).map(({ id }) => id);
      expect(await ids({ limit: 10 })).toEqual(['d', 'c', 'b', 'a']);
      expect(await ids({ limit: 10, workflow: 'fix' })).toEqual(['d', 'c', 'a']);
      expect(await ids({ limit: 10, state: 'queued' })).toEqual(['d', 'b', 'a']);
      expect(await ids({ limit: 10, state: 'queued', workflow: 'other' })).toEqual(['b']);
      const [, last] = await store.runs({ limit: 2 });
      expect(await ids({ limit: 2, before: last?.seq ?? 0 })).toEqual(['b', 'a']);
    });

    test('takes submissions in in order, one for each key of an instance', async ({ store }) => {
      const submission = { agent: 'helper', instance: 'one', json: '{}' };
      const admit = (id: string, more: { key?: string; instance?: string; json?: string } = {}) =>
        store.admitSubmission({ ...submission, id, ...more });
      const first = await admit('s1', { key: 'k' });
      expect(first).toEqual({ isNew: true, row: { ...submission, id: 's1', key: 'k', state: 'queued', seq: 1 } });
      expect(await admit('s2')).toMatchObject({ isNew: true, row: { seq: 2 } });
      expect(await admit('s3')).toMatchObject({ isNew: true, row: { seq: 3 } });
      expect(await admit('s4', { key: 'k', json: '"other"' })).toEqual({ isNew: false, row: first.row });
      expect(await admit('s5', { key: 'k', instance: 'two' })).toMatchObject({ isNew: true, row: { seq: 1 } });
      expect(await store.submission('s1')).toEqual(first.row);
      expect(await store.submission('s4')).toBeUndefined();
    });

    test('reads the inbox of an instance page by page, all or what is not settled', async ({ store }) => {
      for (const id of ['s1', 's2', 's3', 's4']) await store.admitSubmission({ ...instance, id, json: '{}' });
      const settled: Entry[] = [
        { kind: 'submission', id: 's1', state: 'completed', progress: '"done"' },
        { kind: 'submission', id: 's2', state: 'running', progress: '"begun"' },
        { kind: 'submission', id: 's3', state: 'aborted', progress: '"not done"' },
      ];
      await write(store, instance, ...settled);
      const ids = async (query: Parameters<Store['submissions']>[1]) =>
        (await store.submissions(instance, query)).map(({ id }) => id);
      expect(await ids({ limit: 3 })).toEqual(['s1', 's2', 's3']);
      expect(await ids({ limit: 3, after: 3 })).toEqual(['s4']);
      expect(await ids({ limit: 3, unsettled: true })).toEqual(['s2', 's4']);
      expect(await ids({ limit: 3, unsettled: true, after: 2 })).toEqual(['s4']);
      expect(await store.submissions({ ...instance, instance: 'two' }, { limit: 3 })).toEqual([]);
      expect(await store.submission('s2')).toMatchObject({ state: 'running', progress: '"begun"' });
    });

    // contract: 7.4-fence
    test('has one lease for an owner; who has lost it writes nothing more', async ({ store }) => {
      await store.admitRun(run);
      const first = await store.claim(owner, 'host-1', 60_000);
      expect(first).toEqual({ owner, fence: 1 });
      expect(await store.claim(owner, 'host-2', 60_000)).toBeUndefined();
      expect(await store.claim(owner, 'host-1', 60_000)).toBeUndefined();
      expect(await renewed(store, first, -1)).toBe(true); // over at once
      const second = await store.claim(owner, 'host-2', 60_000);
      expect(second).toEqual({ owner, fence: 2 });
      expect(await renewed(store, first, 60_000)).toBe(false);
      await refused(store, first, 'lease', event(0));
      await store.release(held(first)); // is not that of the second
      await store.write(held(second), [event(0)]);
      expect(await store.run(run.id)).toMatchObject({ attempt: 2 });
    });

    test('a lease that is over holds until somebody else claims the owner', async ({ store }) => {
      await store.admitRun(run);
      const lease = await store.claim(owner, 'host', -1);
      await store.write(held(lease), [event(0)]);
      expect(await renewed(store, lease, 60_000)).toBe(true);
    });

    test('an owner that was given free can be claimed by the next one', async ({ store }) => {
      await store.admitSubmission({ ...instance, id: 's1', json: '{}' });
      const first = await store.claim(instance, 'host-1', 60_000);
      await store.release(held(first));
      await refused(store, first, 'lease', event(0));
      expect(await renewed(store, first, 60_000)).toBe(false);
      expect(await store.claim(instance, 'host-2', 60_000)).toEqual({ owner: instance, fence: 2 });
    });

    test('what is not known can not be claimed', async ({ store }) => {
      expect(await store.claim(owner, 'host', 60_000)).toBeUndefined();
      expect(await store.claim(instance, 'host', 60_000)).toBeUndefined();
    });

    test('renews many leases at once and says which are still held', async ({ store }) => {
      const leases: Lease[] = [];
      for (const id of ['a', 'b', 'c']) {
        await store.admitRun({ ...run, id });
        leases.push(held(await store.claim({ run: id }, 'host', 60_000)));
      }
      await store.release({ owner: { run: 'b' }, fence: 1 });
      expect(await store.renew(leases, 60_000)).toEqual([leases[0], leases[2]]);
    });

    test('the final state of a run that is written first stays, and nothing comes after it', async ({ store }) => {
      await store.admitRun(run);
      const lease = await store.claim(owner, 'host', 60_000);
      await store.write(held(lease), [{ kind: 'run', state: 'running', progress: '{"n":1}' }]);
      expect(await store.run(run.id)).toMatchObject({ state: 'running', progress: '{"n":1}' });
      await store.write(held(lease), [event(0), { kind: 'run', state: 'cancelled', progress: '{"n":2}' }]);
      await refused(store, lease, 'lease', { kind: 'run', state: 'completed', progress: '{"n":3}' });
      await refused(store, lease, 'lease', event(1));
      expect(await store.claim(owner, 'host', 60_000)).toBeUndefined();
      expect(await store.run(run.id)).toEqual({
        ...run,
        state: 'cancelled',
        progress: '{"n":2}',
        attempt: 1,
        seq: expect.any(Number),
      });
    });

    test('a submission is settled once', async ({ store }) => {
      await store.admitSubmission({ ...instance, id: 's1', json: '{}' });
      const lease = await store.claim(instance, 'host', 60_000);
      await store.write(held(lease), [{ kind: 'submission', id: 's1', state: 'completed', progress: '1' }]);
      await refused(store, lease, 'submission', { kind: 'submission', id: 's1', state: 'aborted', progress: '2' });
      await refused(store, lease, 'submission', { kind: 'submission', id: 's2', state: 'aborted', progress: '2' });
      expect(await store.submission('s1')).toMatchObject({ state: 'completed', progress: '1' });
    });

    test('only who has the lease of its instance settles a submission', async ({ store }) => {
      await store.admitSubmission({ ...instance, id: 's1', json: '{}' });
      await store.admitSubmission({ ...instance, instance: 'two', id: 's2', json: '{}' });
      const lease = await store.claim(instance, 'host', 60_000);
      await refused(store, lease, 'submission', { kind: 'submission', id: 's2', state: 'aborted', progress: '{}' });
    });

    test('a write of which one entry is refused leaves nothing', async ({ store }) => {
      const lease = await claimed(store);
      const whole: Entry[] = [
        event(0),
        { kind: 'step.start', position: 'p', json: '{}' },
        { kind: 'conversation', id: 'c', json: '{}' },
        { kind: 'record', conversation: 'c', seq: 0, json: '{}' },
        { ...attachment, conversation: 'c' },
        { kind: 'run', state: 'completed', progress: '{}' },
      ];
      await refused(store, lease, 'event', ...whole, event(0));
      expect(await store.lastEvent(owner)).toBe(-1);
      expect(await store.steps(owner, { limit: 10 })).toEqual([]);
      expect(await store.conversations(owner, { limit: 10 })).toEqual([]);
      expect(await store.records(owner, 'c', { limit: 10 })).toEqual([]);
      expect(await store.attachment(owner, 'c', attachment.id)).toBeUndefined();
      expect(await store.run(run.id)).toMatchObject({ state: 'queued' });
      await store.write(lease, whole); // which is fine without it
    });

    test('gives events in order, page by page', async ({ store }) => {
      const lease = await claimed(store);
      expect(await store.lastEvent(owner)).toBe(-1);
      await store.write(lease, [event(0), event(1)]);
      await store.write(lease, [event(2), event(3), event(4)]);
      expect(await store.lastEvent(owner)).toBe(4);
      const row = (index: number) => ({ index, json: event(index).json });
      expect(await store.events(owner, { limit: 3 })).toEqual([row(0), row(1), row(2)]);
      expect(await store.events(owner, { limit: 3, after: 2 })).toEqual([row(3), row(4)]);
      expect(await store.events(owner, { limit: 3, after: 4 })).toEqual([]);
    });

    test('an index of an event is given once', async ({ store }) => {
      const lease = await claimed(store);
      await store.write(lease, [event(0)]);
      await refused(store, lease, 'event', { kind: 'event', index: 0, json: '"other"' });
      expect(await store.events(owner, { limit: 10 })).toEqual([{ index: 0, json: event(0).json }]);
    });

    test('keeps what belongs to one owner apart from that of others', async ({ store }) => {
      const lease = await claimed(store);
      await store.admitSubmission({ agent: run.id, instance: run.id, id: 's1', json: '{}' });
      const same = { agent: run.id, instance: run.id };
      const entries: Entry[] = [
        event(0),
        { kind: 'step.start', position: 'p', json: '1' },
        { kind: 'conversation', id: 'c', json: '1' },
        { kind: 'record', conversation: 'c', seq: 0, json: '1' },
        { ...attachment, conversation: 'c' },
      ];
      await store.write(lease, entries);
      for (const other of [same, { run: 'unknown' }]) {
        expect(await store.lastEvent(other)).toBe(-1);
        expect(await store.events(other, { limit: 10 })).toEqual([]);
        expect(await store.steps(other, { limit: 10 })).toEqual([]);
        expect(await store.conversation(other, 'c')).toBeUndefined();
        expect(await store.records(other, 'c', { limit: 10 })).toEqual([]);
        expect(await store.attachment(other, 'c', attachment.id)).toBeUndefined();
      }
      await write(store, same, ...entries);
    });

    test('keeps how a step began and how it ended, each once', async ({ store }) => {
      const lease = await claimed(store);
      await store.write(lease, [
        { kind: 'step.start', position: 'b', json: '"b"' },
        { kind: 'step.start', position: 'a', json: '"a"' },
      ]);
      await store.write(lease, [{ kind: 'step.end', position: 'b', json: '"over"' }]);
      await refused(store, lease, 'step.start', { kind: 'step.start', position: 'a', json: '"other"' });
      await refused(store, lease, 'step.end', { kind: 'step.end', position: 'b', json: '"other"' });
      await refused(store, lease, 'step.end', { kind: 'step.end', position: 'c', json: '"unknown"' });
      const a = { position: 'a', start: '"a"' };
      const b = { position: 'b', start: '"b"', end: '"over"' };
      expect(await store.steps(owner, { limit: 10 })).toEqual([a, b]);
      expect(await store.steps(owner, { limit: 1 })).toEqual([a]);
      expect(await store.steps(owner, { limit: 1, after: 'a' })).toEqual([b]);
    });

    test('removes the steps below one, and no others', async ({ store }) => {
      const lease = await claimed(store);
      await store.admitRun({ ...run, id: 'other' });
      const other = held(await store.claim({ run: 'other' }, 'host', 60_000));
      const steps = ['p', 'p.x', 'p/a', 'p/a/b', 'p/\u{1f600}', 'p0', 'q', 'a/p/b'];
      for (const position of steps) {
        for (const each of [lease, other]) await store.write(each, [{ kind: 'step.start', position, json: '{}' }]);
      }
      await store.write(lease, [{ kind: 'step.removeBelow', position: 'p' }]);
      await store.write(lease, [{ kind: 'step.removeBelow', position: 'unknown' }]);
      const left = (await store.steps(owner, { limit: 10 })).map(({ position }) => position);
      expect(left).toEqual(['a/p/b', 'p', 'p.x', 'p0', 'q']);
      expect(await store.steps({ run: 'other' }, { limit: 10 })).toHaveLength(steps.length);
    });

    test('gives the records of a conversation in order, page by page', async ({ store }) => {
      const lease = await claimed(store);
      const record = (seq: number, conversation = 'c') => ({
        kind: 'record' as const,
        conversation,
        seq,
        json: `"${conversation}${seq}"`,
      });
      await store.write(lease, [
        { kind: 'conversation', id: 'c', json: '1' },
        { kind: 'conversation', id: 'd', json: '1' },
        record(0),
        record(0, 'd'),
        record(1),
        record(2),
      ]);
      await refused(store, lease, 'record', record(2));
      expect(await store.records(owner, 'c', { limit: 2 })).toEqual([
        { seq: 0, json: '"c0"' },
        { seq: 1, json: '"c1"' },
      ]);
      expect(await store.records(owner, 'c', { limit: 2, after: 1 })).toEqual([{ seq: 2, json: '"c2"' }]);
      await store.write(lease, [{ kind: 'conversation', id: 'c', json: '2' }]);
      expect(await store.conversation(owner, 'c')).toEqual({ id: 'c', json: '2' });
      expect(await store.conversations(owner, { limit: 1, after: 'c' })).toEqual([{ id: 'd', json: '1' }]);
    });

    test('removes a conversation with all that is in it, and no other', async ({ store }) => {
      const lease = await claimed(store);
      const all = (id: string): Entry[] => [
        { kind: 'conversation', id, json: '1' },
        { kind: 'record', conversation: id, seq: 0, json: '1' },
        { ...attachment, conversation: id },
      ];
      await store.write(lease, [...all('c'), ...all('d')]);
      await store.write(lease, [{ kind: 'conversation.remove', id: 'c' }]);
      await refused(store, lease, 'conversation.remove', { kind: 'conversation.remove', id: 'c' });
      expect(await store.conversations(owner, { limit: 10 })).toEqual([{ id: 'd', json: '1' }]);
      expect(await store.records(owner, 'c', { limit: 10 })).toEqual([]);
      expect(await store.attachment(owner, 'c', attachment.id)).toBeUndefined();
      expect(await store.records(owner, 'd', { limit: 10 })).toHaveLength(1);
      expect(await store.attachment(owner, 'd', attachment.id)).toBeDefined();
    });

    test('an attachment never changes', async ({ store }) => {
      const lease = await claimed(store);
      const { kind, ...row } = { ...attachment, conversation: 'c' };
      await store.write(lease, [{ kind, ...row }]);
      await store.write(lease, [{ kind, ...row }]);
      await refused(store, lease, 'attachment', { kind, ...row, digest: 'other', bytes: new Uint8Array([9]) });
      const { conversation, id, ...content } = row;
      expect(await store.attachment(owner, conversation, id)).toEqual(content);
      expect(await store.attachment(owner, conversation, 'other')).toBeUndefined();
    });

    test('keeps values of 16 MB', async ({ store }) => {
      const lease = await claimed(store);
      const json = JSON.stringify('€'.repeat(16_000_000 / 3));
      const bytes = new Uint8Array(16_000_000).fill(7);
      await store.write(lease, [
        { kind: 'event', index: 0, json },
        { ...attachment, conversation: 'c', bytes },
      ]);
      // Not by a matcher, which would print them.
      expect((await store.events(owner, { limit: 1 }))[0]?.json === json).toBe(true);
      const kept = await store.attachment(owner, 'c', attachment.id);
      expect(Buffer.compare(kept?.bytes ?? new Uint8Array(), bytes)).toBe(0);
    });

    test('keeps bytes of a view as they are, and none', async ({ store }) => {
      const lease = await claimed(store);
      const bytes = Buffer.from('abcdef').subarray(2, 4);
      await store.write(lease, [
        { ...attachment, conversation: 'c', id: '1', bytes },
        { ...attachment, conversation: 'c', id: '2', bytes: new Uint8Array() },
      ]);
      expect((await store.attachment(owner, 'c', '1'))?.bytes).toEqual(new Uint8Array(bytes));
      expect((await store.attachment(owner, 'c', '2'))?.bytes).toEqual(new Uint8Array());
    });

    test('tells texts apart whatever is in them', async ({ store }) => {
      const texts = [
        'a',
        'a\0',
        'a\0b',
        '\ud800',
        '\ud801',
        '\udc00',
        '\ufffd',
        '\\ud800',
        '"',
        '\\',
        "'; --",
        '😀',
        '%',
        'A',
      ];
      const json = JSON.stringify(texts);
      for (const text of texts) {
        const names = { agent: text, instance: text };
        await store.admitRun({ id: text, workflow: text, json });
        await store.admitSubmission({ ...names, id: text, key: text, json });
        const entries: Entry[] = [
          { kind: 'step.start', position: text, json },
          { kind: 'conversation', id: text, json },
          { kind: 'record', conversation: text, seq: 0, json },
          { ...attachment, conversation: text, id: text },
        ];
        await write(store, names, ...entries, { kind: 'submission', id: text, state: 'completed', progress: json });
        await write(store, { run: text }, ...entries, { kind: 'run', state: 'completed', progress: json });
      }
      for (const text of texts) {
        const ended = { state: 'completed', json, progress: json };
        const names = { agent: text, instance: text };
        expect(await store.runs({ workflow: text, limit: 2 })).toMatchObject([{ id: text, workflow: text, ...ended }]);
        expect(await store.submissions(names, { limit: 2 })).toMatchObject([
          { ...names, id: text, key: text, ...ended },
        ]);
        for (const one of [names, { run: text }]) {
          expect(await store.steps(one, { limit: 2 })).toEqual([{ position: text, start: json }]);
          expect(await store.conversations(one, { limit: 2 })).toEqual([{ id: text, json }]);
          expect(await store.records(one, text, { limit: 2 })).toEqual([{ seq: 0, json }]);
          expect(await store.attachment(one, text, text)).toBeDefined();
        }
      }
    });

    test('removes the runs that ended before a time with all that is theirs, and no others', async ({ store }) => {
      for (const id of ['ended', 'running', 'queued']) await store.admitRun({ ...run, id });
      const entries: Entry[] = [
        event(0),
        { kind: 'step.start', position: 'p', json: '1' },
        { kind: 'conversation', id: 'c', json: '1' },
        { kind: 'record', conversation: 'c', seq: 0, json: '1' },
        { ...attachment, conversation: 'c' },
      ];
      await write(store, { run: 'ended' }, ...entries, { kind: 'run', state: 'failed', progress: '{}' });
      await write(store, { run: 'running' }, ...entries);
      const later = new Date(Date.now() + 60_000);
      expect(await store.removeRuns(new Date(Date.now() - 60_000))).toBe(0);
      expect(await store.removeRuns(later)).toBe(1);
      expect((await store.runs({ limit: 10 })).map(({ id }) => id)).toEqual(['queued', 'running']);
      expect(await store.events({ run: 'running' }, { limit: 10 })).toHaveLength(1);
      expect(await store.attachment({ run: 'running' }, 'c', attachment.id)).toBeDefined();
      // A new one of the same id has nothing of it.
      await store.admitRun({ ...run, id: 'ended' });
      expect(await store.lastEvent({ run: 'ended' })).toBe(-1);
      await write(store, { run: 'ended' }, ...entries, { kind: 'run', state: 'failed', progress: '{}' });
      expect(await store.removeRuns(later)).toBe(1);
    });

    test('a number of a run is not given again when the newest was removed', async ({ store }) => {
      const { row } = await store.admitRun(run);
      await write(store, owner, { kind: 'run', state: 'completed', progress: '{}' });
      await store.removeRuns(new Date(Date.now() + 60_000));
      expect((await store.admitRun(run)).row.seq).toBeGreaterThan(row.seq);
    });

    test('gives what nobody works on and can go on: runs and inboxes, in the order in which they came', async ({
      store,
    }) => {
      const unowned = async (after = 0) => (await store.unowned({ after, limit: 10 })).map(({ owner }) => owner);
      for (const id of ['queued', 'held', 'lost', 'ended', 'suspended', 'woken', 'due']) {
        await store.admitRun({ id, workflow: `of-${id}`, json: '{}' });
      }
      await store.admitSubmission({ ...instance, id: 's1', json: '{}' });
      const settled = { agent: 'helper', instance: 'settled' };
      await store.admitSubmission({ ...settled, id: 's2', json: '{}' });
      await write(store, settled, { kind: 'submission', id: 's2', state: 'completed', progress: '{}' });
      await store.claim({ run: 'held' }, 'host', 60_000);
      const lost = await store.claim({ run: 'lost' }, 'host', 0);
      await store.write(lost as Lease, [{ kind: 'run', state: 'running', progress: '{}' }]);
      await write(store, { run: 'ended' }, { kind: 'run', state: 'failed', progress: '{}' });
      const now = Date.now();
      for (const [id, wakeAt] of Object.entries({
        suspended: undefined,
        woken: undefined,
        due: now - 1,
        later: now + 60_000,
      })) {
        if (id === 'later') await store.admitRun({ id, workflow: 'w', json: '{}' });
        const entry = {
          kind: 'run',
          state: 'suspended',
          progress: '{}',
          ...(wakeAt !== undefined && { wakeAt }),
        } as const;
        await write(store, { run: id }, entry);
        expect(await store.run(id)).toMatchObject({ state: 'suspended' });
      }
      await store.wake('woken');
      await store.wake('ended'); // without effect
      expect(await unowned()).toEqual([{ run: 'queued' }, { run: 'lost' }, { run: 'woken' }, { run: 'due' }, instance]);
      const [first, second] = await store.unowned({ limit: 2 });
      expect(first).toMatchObject({ owner: { run: 'queued' }, workflow: 'of-queued' });
      expect(await unowned(second?.seq)).toEqual([{ run: 'woken' }, { run: 'due' }, instance]);
      expect(await store.claim({ run: 'suspended' }, 'other', 1_000)).toMatchObject({ fence: 2 }); // which was let go
    });

    test('keeps what is sent to a run in order, once for each key, and wakes the run', async ({ store }) => {
      await store.admitRun({ id: 'run_1', workflow: 'w', json: '{}' });
      await store.admitRun({ id: 'run_2', workflow: 'w', json: '{}' });
      await write(store, { run: 'run_1' }, { kind: 'run', state: 'suspended', progress: '{}' });
      const send = (json: string, key?: string) =>
        store.send({ run: 'run_1', name: 'answer', json, ...(key !== undefined && { key }) });
      expect(await send('1')).toBe(true);
      expect(await send('2', 'k')).toBe(true);
      expect(await send('3', 'k')).toBe(false);
      expect(await send('4')).toBe(true);
      expect(await store.send({ run: 'run_2', name: 'answer', key: 'k', json: '5' })).toBe(true);
      const sent = await store.mail('run_1', { limit: 10 });
      expect(sent.map(({ name, key, json }) => [name, key, json])).toEqual([
        ['answer', undefined, '1'],
        ['answer', 'k', '2'],
        ['answer', undefined, '4'],
      ]);
      expect(await store.mail('run_1', { after: sent[0]?.seq ?? 0, limit: 1 })).toEqual([sent[1]]);
      expect((await store.unowned({ limit: 10 })).map(({ owner }) => owner)).toEqual([
        { run: 'run_1' },
        { run: 'run_2' },
      ]);
      await write(store, { run: 'run_1' }, { kind: 'mail.take', seq: sent[1]?.seq ?? 0 });
      expect((await store.mail('run_1', { limit: 10 })).map(({ json }) => json)).toEqual(['1', '4']);
      expect(await send('6', 'k')).toBe(false); // also of one that was taken
    });

    test('is closed once, and says so to calls that come later', async ({ store }) => {
      await store.close();
      await store.close();
      const error = await store.run('a').catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(StoreError);
      expect(error).toMatchObject({ meta: { operation: 'run', reason: 'closed' } });
      await expect(store.admitRun(run)).rejects.toThrow(StoreError);
    });
  });
}

const run = { id: 'run_1', workflow: 'fix', json: '{}' };
const owner = { run: run.id };
const instance = { agent: 'helper', instance: 'one' };
const attachment = {
  kind: 'attachment' as const,
  id: 'att_1',
  digest: 'sha256',
  json: '{"mimeType":"image/png"}',
  bytes: new Uint8Array([0, 1, 255]),
};

function event(index: number) {
  return { kind: 'event' as const, index, json: `{"eventIndex":${index}}` };
}

async function claimed(store: Store): Promise<Lease> {
  await store.admitRun(run);
  return held(await store.claim(owner, 'host', 60_000));
}

async function write(store: Store, of: Owner, ...entries: Entry[]): Promise<void> {
  const lease = held(await store.claim(of, 'host', 60_000));
  await store.write(lease, entries);
  await store.release(lease);
}

async function renewed(store: Store, lease: Lease | undefined, ttlMs: number): Promise<boolean> {
  return (await store.renew([held(lease)], ttlMs)).length === 1;
}

async function refused(store: Store, lease: Lease | undefined, reason: string, ...entries: Entry[]): Promise<void> {
  const error = await store.write(held(lease), entries).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(WriteRefusedError);
  expect(error).toMatchObject({ meta: { reason } });
}

function held(lease: Lease | undefined): Lease {
  if (!lease) throw new Error('The owner could not be claimed');
  return lease;
}
