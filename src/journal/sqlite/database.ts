import { accessSync, closeSync, constants, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type Libsql from 'libsql';
import { BerthError } from '../../errors.ts';
import { StoreError, StoreVersionError } from '../errors.ts';

type Operation = StoreError['meta']['operation'];
/** No booleans, at which the driver ends the whole process. */
type Value = string | number | Uint8Array | null;

/** In the header of our files: "Brth". */
const applicationId = 0x42_72_74_68;

/** Of a database that is not empty: its first page has this many bytes at least. */
const smallestPage = 512;

/** SQLite itself waits that long for a lock, and nothing else in this process goes on meanwhile. */
const blockingMs = 20;
/** Between two tries after that. */
const lockPollMs = 10;

export interface DatabaseOptions {
  /** How long to wait for a lock that another process has. Default: 10 s */
  lockPatienceMs?: number;
}

/** A connection to a file of ours, or to a database in memory. */
export class Database {
  readonly #path: string;
  readonly #lockPatienceMs: number;
  readonly #statements = new Map<string, Libsql.Statement>();
  /** Until it is closed. */
  #connection: Libsql.Database | undefined;

  private constructor(path: string, connection: Libsql.Database, lockPatienceMs: number) {
    this.#path = path;
    this.#connection = connection;
    this.#lockPatienceMs = lockPatienceMs;
  }

  /**
   * @param path - a file, made when it is not there, with the directories above it; or `:memory:`
   * @param migrations - the first one is for an empty database
   * @throws {StoreError} also when the file is not ours, which is not touched then
   * @throws {StoreVersionError} more was done to it than these migrations
   */
  static async open(
    path: string,
    migrations: readonly string[],
    { lockPatienceMs = 10_000 }: DatabaseOptions = {},
  ): Promise<Database> {
    let connection: Libsql.Database | undefined;
    try {
      const file = path === ':memory:' ? path : makeFile(resolve(path));
      // Not before it is needed: there are platforms that it has no binary for.
      const { default: Driver } = await import('libsql');
      connection = new Driver(file);
      const database = new Database(path, connection, lockPatienceMs);
      await database.#prepare(migrations);
      return database;
    } catch (error) {
      connection?.close(); // and no more: it may be somebody else's
      throw failure(error, 'open', path);
    }
  }

  /** Runs `work`, a single read. */
  read<T>(operation: Operation, work: () => T): Promise<T> {
    return this.#whenUnlocked(operation, work);
  }

  /** Runs `work` in a transaction: what it wrote is there when this resolves, and nothing of it when it throws. */
  transact<T>(operation: Operation, work: () => T): Promise<T> {
    return this.#whenUnlocked(operation, () => {
      const connection = this.#open(operation);
      connection.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        connection.exec('COMMIT');
        return result;
      } catch (error) {
        if (connection.inTransaction) connection.exec('ROLLBACK'); // a full disk may have done so already
        throw error;
      }
    });
  }

  /** For within `read` and `transact`. The rows are what the statement's columns are. */
  all<Row>(sql: string, ...values: Value[]): Row[] {
    return this.#statement(sql).all(values) as Row[]; // the caller wrote the statement
  }

  /** The first row. What `all` reads with is freed in a later turn of the event loop only, and many reads may come before. */
  get<Row>(sql: string, ...values: Value[]): Row | undefined {
    const found = this.#statement(sql).get(values) as (Row & { _metadata: unknown }) | undefined;
    if (!found) return undefined;
    const { _metadata, ...row } = found; // the driver's
    return row as unknown as Row;
  }

  /** For within `transact`. @returns how many rows were changed */
  run(sql: string, ...values: Value[]): number {
    return this.#statement(sql).run(values).changes;
  }

  close(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#statements.clear();
    // The driver keeps the file open until its statements are collected: leave everything in the one file now.
    try {
      connection?.pragma('wal_checkpoint(TRUNCATE)');
    } catch {
      // A full disk, or another process that reads: what is written is safe beside it.
    }
    connection?.close();
  }

  async #prepare(migrations: readonly string[]): Promise<void> {
    const connection = this.#open('open');
    connection.pragma(`busy_timeout = ${blockingMs}`);
    if (await this.read('open', () => this.#isNew())) {
      // Before WAL: then it stands in the file itself from the first moment on.
      await this.transact('open', () => {
        if (this.#isNew()) connection.exec(`PRAGMA application_id = ${applicationId}`); // another process may have been faster
      });
    }
    // One that is newer is not changed in any way.
    await this.read('open', () => this.#version(migrations));
    await this.read('open', () => connection.pragma('journal_mode = WAL'));
    // Holds against the end of the process, by kill -9 too; a power failure may take the last transactions, as wholes.
    connection.exec('PRAGMA synchronous = NORMAL');
    connection.exec(`PRAGMA journal_size_limit = ${16 * 1024 * 1024}`);
    while ((await this.read('open', () => this.#version(migrations))) < migrations.length) {
      await this.transact('open', () => {
        const version = this.#version(migrations); // another process may have been faster
        const migration = migrations[version];
        if (migration === undefined) return;
        connection.exec(migration);
        connection.exec(`PRAGMA user_version = ${version + 1}`);
      });
    }
  }

  /** Whether nothing is in it yet. */
  #isNew(): boolean {
    // In this order: another process may be just making it, which gives it its id first, and then tables.
    const isEmpty = !this.get('SELECT 1 FROM sqlite_schema LIMIT 1');
    const id = this.#number('application_id');
    if (id === applicationId) return false;
    if (id === 0 && isEmpty) return true;
    throw notAStore(this.#path);
  }

  /** How many migrations were done to it. */
  #version(migrations: readonly string[]): number {
    const stored = this.#number('user_version');
    const supported = migrations.length;
    if (stored < 0 || stored > supported) {
      throw new StoreVersionError({ stored, supported }, { hint: `The store is ${this.#path}.` });
    }
    return stored;
  }

  #number(pragma: string): number {
    const [row] = this.#open('open').pragma(pragma) as Record<string, number>[]; // all that are asked for give a number
    return row?.[pragma] ?? 0;
  }

  /** Tries until no other process has a lock, without keeping up what else this one does. */
  async #whenUnlocked<T>(operation: Operation, work: () => T): Promise<T> {
    const until = performance.now() + this.#lockPatienceMs;
    for (;;) {
      this.#open(operation);
      try {
        return work();
      } catch (error) {
        if (reasonOf(error) !== 'locked' || performance.now() >= until) throw failure(error, operation, this.#path);
      }
      await wait(lockPollMs);
    }
  }

  #open(operation: Operation): Libsql.Database {
    if (this.#connection) return this.#connection;
    throw new StoreError({ operation, reason: 'closed' }, { hint: `The store is ${this.#path}.` });
  }

  #statement(sql: string): Libsql.Statement {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#open('open').prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** Makes the file with its directories when it is not there, for this user alone; SQLite gives its mode to those beside it. */
function makeFile(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    // Not when it is there: to close a file takes away the locks that SQLite has on it in this process.
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // node:fs throws nothing else
    accessSync(path, constants.R_OK | constants.W_OK);
    const found = statSync(path);
    // A short file SQLite would take for an empty database.
    if (!found.isFile() || (found.size > 0 && found.size < smallestPage)) throw notAStore(path);
  }
  return path;
}

function notAStore(path: string): StoreError {
  return new StoreError({ operation: 'open', reason: 'not_a_store' }, { hint: `The store is ${path}.` });
}

function failure(error: unknown, operation: Operation, path: string): unknown {
  if (error instanceof BerthError) return error;
  return new StoreError({ operation, reason: reasonOf(error) }, { cause: error, hint: `The store is ${path}.` });
}

/** By the beginnings of SQLite's codes, and the file system's. */
const reasons: [RegExp, string][] = [
  [/^(SQLITE_FULL|ENOSPC|EDQUOT)/, 'full'],
  [/^(SQLITE_READONLY|EACCES|EPERM|EROFS)/, 'read_only'],
  [/^SQLITE_CORRUPT/, 'corrupt'],
  [/^(SQLITE_BUSY|SQLITE_LOCKED)/, 'locked'],
  [/^SQLITE_NOTADB/, 'not_a_store'],
];

function reasonOf(error: unknown): string {
  const code = (error instanceof Error && 'code' in error && String(error.code)) || 'unavailable';
  return reasons.find(([pattern]) => pattern.test(code))?.[1] ?? code;
}
