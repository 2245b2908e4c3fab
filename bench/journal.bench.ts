// What a runtime keeps: writes, and the load of a long conversation.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SqliteStore } from '../src/journal/sqlite/sqlite-store.ts';
import type { Entry } from '../src/journal/store.ts';
import { compare } from './compare.ts';

const owner = { run: 'bench' };
const records = 10_000;
const page = 1_000;
/** An event, or a record, as they are: some hundred characters. */
const json = JSON.stringify({ v: 1, type: 'message_end', timestamp: new Date(), message: { text: 'x'.repeat(500) } });

const directory = await mkdtemp(join(tmpdir(), 'berth-bench-'));
try {
  const stores = {
    file: await SqliteStore.open(join(directory, 'runtime.db')),
    memory: await SqliteStore.open(':memory:'),
  };
  const writers = await Promise.all(Object.values(stores).map(writerOf));
  const [file, memory] = writers;
  if (!file || !memory) throw new Error('There are two stores');
  for (const count of [1, 20]) {
    await compare(
      `a write of ${count} event${count === 1 ? '' : 's'}`,
      { 'in a file': () => file(count), 'in memory': () => memory(count) },
      { rounds: 50, inARow: 100 },
    );
  }
  await compare(
    `a conversation of ${records.toLocaleString('en')} records`,
    { 'from a file': () => load(stores.file), 'from memory': () => load(stores.memory) },
    { rounds: 20 },
  );
  await Promise.all(Object.values(stores).map((store) => store.close()));
} finally {
  await rm(directory, { recursive: true, force: true });
}

/** Has the conversation written, and gives what writes events. */
async function writerOf(store: SqliteStore): Promise<(count: number) => Promise<void>> {
  await store.admitRun({ id: owner.run, workflow: 'bench', json: '{}' });
  const lease = await store.claim(owner, 'bench', 60_000);
  if (!lease) throw new Error('The run was claimed by nobody else');
  for (let seq = 0; seq < records; seq++) {
    await store.write(lease, [{ kind: 'record', conversation: 'c', seq, json }]);
  }
  let index = 0;
  return (count) => {
    const events = Array.from({ length: count }, (): Entry => ({ kind: 'event', index: index++, json }));
    return store.write(lease, events);
  };
}

async function load(store: SqliteStore): Promise<void> {
  const loaded: unknown[] = [];
  for (let after = -1; ; ) {
    const rows = await store.records(owner, 'c', { after, limit: page });
    for (const row of rows) loaded.push(JSON.parse(row.json));
    after = rows.at(-1)?.seq ?? after;
    if (rows.length < page) break;
  }
  if (loaded.length !== records) throw new Error(`${loaded.length} records were loaded`);
}
