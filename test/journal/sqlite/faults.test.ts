import { chmod, copyFile, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import Libsql from 'libsql';
import { expect, onTestFinished, test as withoutDirectory } from 'vitest';
import { StoreError, StoreVersionError } from '../../../src/journal/errors.ts';
import { Database } from '../../../src/journal/sqlite/database.ts';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import type { Entry, Lease, Store } from '../../../src/journal/store.ts';
import { elsewhere, together } from './elsewhere.ts';

const isRoot = process.getuid?.() === 0;

const test = withoutDirectory.extend<{ path: string }>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of the fixtures that this one needs
  path: async ({}, use) => {
    const directory = await mkdtemp(join(tmpdir(), 'berth-test-'));
    await use(join(directory, 'runtime.db'));
    await rm(directory, { recursive: true, force: true });
  },
});

/** Writes three rows a time without end, and says how many times it did. */
const writeOn = `
  const store = await SqliteStore.open(path);
  await store.admitRun({ id: 'r', workflow: 'w', json: '{}' });
  const lease = await store.claim({ run: 'r' }, 'host', 60_000);
  const json = JSON.stringify('x'.repeat(50_000));
  const entries = (index) => [
    { kind: 'event', index, json },
    { kind: 'step.start', position: String(index), json },
    { kind: 'record', conversation: 'c', seq: index, json },
  ];`;

async function kept(store: Store): Promise<number[]> {
  const [events, steps, records] = await Promise.all([
    store.events({ run: 'r' }, { limit: 100_000 }),
    store.steps({ run: 'r' }, { limit: 100_000 }),
    store.records({ run: 'r' }, 'c', { limit: 100_000 }),
  ]);
  return [events.length, steps.length, records.length];
}

test('a process that is killed while it writes leaves whole writes, all that it was told of among them', async ({
  path,
}) => {
  for (const [round, times] of [1, 10, 40].entries()) {
    const file = `${path}.${round}`;
    const writing = elsewhere(
      file,
      `${writeOn}
      for (let index = 0; ; index++) {
        await store.write(lease, entries(index));
        say(index + 1);
      }`,
    );
    let said = 0;
    for await (const line of writing.iterable()) {
      said = Number(line);
      if (said === times) writing.kill('SIGKILL'); // it goes on until that arrives
    }
    await using store = await SqliteStore.open(file);
    const counts = await kept(store);
    expect(counts).toEqual([counts[0], counts[0], counts[0]]);
    expect(counts[0]).toBeGreaterThanOrEqual(said);
    await writeOne(store);
  }
});

test('a process that is killed in the middle of a write leaves nothing of it', async ({ path }) => {
  const killed = await elsewhere(
    path,
    `${writeOn}
    await store.write(lease, entries(0));
    const last = { get kind() { process.kill(process.pid, 'SIGKILL'); } };
    await store.write(lease, [...entries(1), ...entries(2), last]);`,
  );
  expect(killed).toMatchObject({ signal: 'SIGKILL' });
  await using store = await SqliteStore.open(path);
  expect(await kept(store)).toEqual([1, 1, 1]);
  await writeOne(store);
});

test('processes that open a new store at once make its tables once', async ({ path }) => {
  const body = `
    await start();
    const store = await SqliteStore.open(path);
    say((await store.admitRun({ id: String(process.pid), workflow: 'w', json: '{}' })).isNew);`;
  expect(await together(4, path, body)).toEqual([true, true, true, true]);
  await using store = await SqliteStore.open(path);
  expect(await store.runs({ limit: 10 })).toHaveLength(4);
});

test('each run is taken in, and claimed, by one of the processes that try at once', async ({ path }) => {
  const body = `
    const store = await SqliteStore.open(path);
    await start();
    const mine = { admitted: [], claimed: [] };
    for (let n = 0; n < 100; n++) {
      const { isNew } = await store.admitRun({ id: String(n), workflow: 'w', json: '{}' });
      if (isNew) mine.admitted.push(n);
      if (await store.claim({ run: String(n) }, 'host', 60_000)) mine.claimed.push(n);
    }
    say(mine);`;
  const all = (await together(2, path, body)) as { admitted: number[]; claimed: number[] }[]; // what the body says
  const inOrder = Array.from({ length: 100 }, (_, n) => n);
  expect(all.flatMap(({ admitted }) => admitted).sort((a, b) => a - b)).toEqual(inOrder);
  expect(all.flatMap(({ claimed }) => claimed).sort((a, b) => a - b)).toEqual(inOrder);
});

test('an inbox has one order and each key once, whichever process a submission came from', async ({ path }) => {
  const body = `
    const store = await SqliteStore.open(path);
    await start();
    const admitted = [];
    for (let n = 0; n < 50; n++) {
      const names = { agent: 'a', instance: 'i', json: '{}' };
      const keyed = await store.admitSubmission({ ...names, id: 'keyed' + process.pid + n, key: String(n) });
      const own = await store.admitSubmission({ ...names, id: 'own' + process.pid + n });
      admitted.push([n, keyed.row.id, keyed.row.seq], ['', own.row.id, own.row.seq]);
    }
    say(admitted);`;
  const [first = [], second = []] = (await together(2, path, body)) as [string | number, string, number][][]; // as above
  const keyed = (all: typeof first) => all.filter(([key]) => key !== '');
  expect(keyed(first)).toEqual(keyed(second));
  await using store = await SqliteStore.open(path);
  const inbox = await store.submissions({ agent: 'a', instance: 'i' }, { limit: 1_000 });
  expect(inbox.map(({ seq }) => seq)).toEqual(Array.from({ length: 150 }, (_, n) => n + 1));
  const told = new Map([...first, ...second].map(([, id, seq]) => [id, seq]));
  expect(told).toEqual(new Map(inbox.map(({ id, seq }) => [id, seq])));
});

test('a file that is not a store is refused and stays as it is', async ({ path }) => {
  const contents: Record<string, Buffer> = {
    text: Buffer.from('not a database at all\n'.repeat(1_000)),
    byte: Buffer.from('x'),
    other: await sqliteFile(`${path}.1`, 'CREATE TABLE mine (a)'),
    named: await sqliteFile(`${path}.2`, 'PRAGMA application_id = 7'),
  };
  for (const [name, content] of Object.entries(contents)) {
    const file = join(dirname(path), name, 'file');
    await mkdir(dirname(file));
    await writeFile(file, content);
    expect(await failureOf(SqliteStore.open(file))).toMatchObject({
      meta: { operation: 'open', reason: 'not_a_store' },
    });
    expect(await readFile(file)).toEqual(content);
    expect(await readdir(dirname(file))).toEqual(['file']);
  }
});

test('an empty file becomes a store', async ({ path }) => {
  await writeFile(path, '');
  await using store = await SqliteStore.open(path);
  await writeOne(store);
});

test('where there is no place for a file the store says so', async ({ path }) => {
  await mkdir(path);
  expect(await failureOf(SqliteStore.open(path))).toMatchObject({ meta: { operation: 'open', reason: 'not_a_store' } });
  await writeFile(`${path}/file`, '');
  const below = await failureOf(SqliteStore.open(`${path}/file/runtime.db`));
  expect(below).toMatchObject({ meta: { operation: 'open', reason: 'EEXIST' }, cause: expect.any(Error) });
});

test('a store of a newer or an unknown version is refused and stays as it is', async ({ path }) => {
  const two = await Database.open(path, ['CREATE TABLE a (x)', 'CREATE TABLE b (x)']);
  two.close();
  const content = await readFile(path);
  const refused = (stored: number) => ({ meta: { stored, supported: 1 } });
  const newer = await Database.open(path, ['CREATE TABLE a (x)']).catch((error: unknown) => error);
  expect(newer).toBeInstanceOf(StoreVersionError);
  expect(newer).toMatchObject(refused(2));
  expect(await readFile(path)).toEqual(content);
  await sqliteFile(path, 'PRAGMA user_version = -5');
  expect(await Database.open(path, ['']).catch((error: unknown) => error)).toMatchObject(refused(-5));
});

test('a migration is done once and as a whole, in order; one that fails is done the next time', async ({ path }) => {
  const first = 'CREATE TABLE log (name); INSERT INTO log VALUES (1)';
  const half = 'INSERT INTO log VALUES (2); INSERT INTO nowhere VALUES (2)';
  expect(await failureOf(Database.open(path, [first, half]))).toMatchObject({ meta: { operation: 'open' } });
  const second = 'INSERT INTO log VALUES (3)';
  for (const _ of ['first', 'again']) (await Database.open(path, [first, second])).close();
  const database = await Database.open(path, [first, second, 'INSERT INTO log SELECT max(name) + 1 FROM log']);
  expect(await database.read('run', () => database.all('SELECT name FROM log'))).toEqual(
    [1, 3, 4].map((name) => ({ name })),
  );
  database.close();
});

test('what was written is there when the store is opened again, all of it in the one file', async ({ path }) => {
  const store = await SqliteStore.open(path);
  await writeOne(store);
  await store.close();
  await copyFile(path, `${path}.copy`);
  await using again = await SqliteStore.open(`${path}.copy`);
  expect(await again.lastEvent({ run: 'one' })).toBe(0);
});

test('of a run that was removed no row is left', async ({ path }) => {
  await using store = await SqliteStore.open(path);
  const lease = await writeOne(store);
  await store.write(lease, [
    { kind: 'step.start', position: 'p', json: '{}' },
    { kind: 'conversation', id: 'c', json: '{}' },
    { kind: 'record', conversation: 'c', seq: 0, json: '{}' },
    { kind: 'attachment', conversation: 'c', id: 'a', digest: 'd', json: '{}', bytes: new Uint8Array(1) },
    { kind: 'run', state: 'completed', progress: '{}' },
  ]);
  const connection = new Libsql(path);
  const filled = () => {
    // `store` is of no run: it has the store's own id.
    const sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'store'";
    const names = connection.prepare(sql).all() as { name: string }[]; // what it selects
    return names.map(({ name }) => name).filter((name) => connection.prepare(`SELECT 1 FROM ${name}`).all().length > 0);
  };
  expect(filled().sort()).toEqual(['attachments', 'conversations', 'events', 'owners', 'records', 'runs', 'steps']);
  await store.removeRuns(new Date(Date.now() + 60_000));
  expect(filled()).toEqual([]);
  connection.close();
});

test('only this user can read it, whatever the umask; a directory that was there keeps its mode', async ({ path }) => {
  await chmod(dirname(path), 0o755);
  const file = join(dirname(path), 'made/here/runtime.db');
  await using store = await SqliteStore.open(file);
  await writeOne(store);
  const mode = async (name: string) => (await stat(name)).mode & 0o777;
  for (const name of ['runtime.db', 'runtime.db-wal', 'runtime.db-shm']) {
    expect([name, await mode(join(dirname(file), name))]).toEqual([name, 0o600]);
  }
  expect(await mode(dirname(file))).toBe(0o700);
  expect(await mode(dirname(dirname(file)))).toBe(0o700);
  expect(await mode(dirname(path))).toBe(0o755);
});

test('waits for a lock that another process has, and lets other work go on meanwhile', async ({ path }) => {
  await using store = await SqliteStore.open(path);
  using other = locked(path);
  const writing = writeOne(store);
  expect(await store.lastEvent({ run: 'one' })).toBe(-1); // reads are not kept up
  other.release();
  await writing;
  expect(await store.lastEvent({ run: 'one' })).toBe(0);
});

test('a lock that stays is an error, and nothing was written', async ({ path }) => {
  await (await SqliteStore.open(path)).close();
  await using store = await SqliteStore.open(path, { lockPatienceMs: 0 });
  using other = locked(path);
  const run = { id: 'one', workflow: 'w', json: '{}' };
  const error = await failureOf(store.admitRun(run));
  expect(error).toMatchObject({ meta: { operation: 'admitRun', reason: 'locked' }, cause: { code: 'SQLITE_BUSY' } });
  other.release();
  expect(await store.run('one')).toBeUndefined();
  await writeOne(store);
});

test('a damaged file is an error', async ({ path }) => {
  const store = await SqliteStore.open(path);
  await writeOne(store);
  await store.close();
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.alloc(size - 4096, 0xff), 0, size - 4096, 4096);
  await file.close();
  const error = await failureOf(SqliteStore.open(path).then((damaged) => damaged.runs({ limit: 1 })));
  expect(error).toMatchObject({ meta: { reason: 'corrupt' }, cause: { code: 'SQLITE_CORRUPT' } });
});

test.skipIf(!isRoot)(
  'a full disk is an error, leaves nothing of the write, and is over when there is room',
  async () => {
    const directory = await mounted('size=1m');
    await using store = await SqliteStore.open(join(directory, 'runtime.db'));
    const lease = await writeOne(store);
    const json = JSON.stringify('x'.repeat(100_000));
    const big = Array.from({ length: 20 }, (_, index): Entry => ({ kind: 'event', index: index + 1, json }));
    const error = await failureOf(store.write(lease, big));
    expect(error).toMatchObject({ meta: { operation: 'write', reason: 'full' }, cause: { code: 'SQLITE_FULL' } });
    expect(await store.lastEvent({ run: 'one' })).toBe(0);
    await execa('mount', ['-o', 'remount,size=20m', directory]);
    await store.write(lease, big);
    expect(await store.lastEvent({ run: 'one' })).toBe(20);
  },
);

test.skipIf(!isRoot)('a file that can only be read is an error', async () => {
  const directory = await mounted('size=10m');
  const file = join(directory, 'runtime.db');
  const made = await elsewhere(file, 'await (await SqliteStore.open(path)).close(); say(1)'); // which has it open no more
  expect(made.stdout).toBe('1');
  await execa('mount', ['-o', 'remount,ro', directory]);
  expect(await failureOf(SqliteStore.open(file))).toMatchObject({ meta: { operation: 'open', reason: 'read_only' } });
  const other = await failureOf(SqliteStore.open(join(directory, 'other.db')));
  expect(other).toMatchObject({ meta: { operation: 'open', reason: 'read_only' } });
});

/** A run with an event: the store takes writes. */
async function writeOne(store: Store): Promise<Lease> {
  await store.admitRun({ id: 'one', workflow: 'w', json: '{}' });
  const lease = await store.claim({ run: 'one' }, 'host', 60_000);
  if (!lease) throw new Error('The run could not be claimed');
  await store.write(lease, [{ kind: 'event', index: 0, json: '{}' }]);
  return lease;
}

async function failureOf(call: Promise<unknown>): Promise<unknown> {
  const error = await call.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(StoreError);
  return error;
}

/** Another connection in the middle of a write. */
function locked(path: string): Disposable & { release(): void } {
  const connection = new Libsql(path);
  connection.exec('BEGIN IMMEDIATE');
  return { release: () => connection.exec('COMMIT'), [Symbol.dispose]: () => connection.close() };
}

/** What SQLite makes of a file. */
async function sqliteFile(path: string, sql: string): Promise<Buffer> {
  const connection = new Libsql(path);
  connection.exec(sql);
  connection.close();
  return readFile(path);
}

/** A disk of its own. */
async function mounted(options: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-test-'));
  await execa('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', directory]);
  onTestFinished(async () => {
    await execa('umount', ['-l', directory]);
    await rm(directory, { recursive: true });
  });
  return directory;
}
