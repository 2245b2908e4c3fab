import { readFileSync, writeSync } from 'node:fs';
import * as v from 'valibot';
import { treeOrder } from '../../../src/protocol/checkpoint.ts';
import type { Restored } from './kept-tree.ts';
import { LineWriter, linesOf } from './lines.ts';
import { merged } from './merge.ts';
import { closeAll, type PrivateFiles } from './private.ts';
import type { Attributes } from './stage.ts';
import type { TreeEntry, TreeRoot } from './tree.ts';

/** Goes out of the tree; all that is in a directory is behind it. */
export interface Removal {
  /** Counts the removals. */
  number: number;
  was: TreeEntry;
}

/** Comes into the tree, in place of what is no directory, or of nothing. */
export interface Arrival {
  /** Of what is staged. */
  number: number;
  path: string;
  isDirectory: boolean;
  replaces?: TreeEntry;
}

/** A directory in which something comes or goes, or that does so itself. */
export interface Touched {
  path: string;
  /** Left out: it arrives. */
  was?: TreeEntry;
  /** At the end; `null`: it goes. */
  wanted: Attributes | null;
}

interface Level {
  path: string;
  /** What the places of all that is in it begin with. */
  prefix: string;
  was?: TreeEntry;
  wanted?: Attributes | null;
  isTouched: boolean;
  outcome: 'stays' | 'arrives' | 'goes' | 'conflict';
}

const fileNames = ['removals', 'arrivals', 'touched'] as const;
type PlanFiles = Record<(typeof fileNames)[number], number>;

/** Where it is carried out: absolute paths. */
const places = v.strictObject({ root: v.string(), stage: v.string() });
export type Places = v.InferOutput<typeof places>;

/**
 * What is to be done to a tree. It is decided entry by entry, in the order of `treeOrder`, and noted in files: however much it
 * is, little of it is in memory, and after a crash it says what is to be undone.
 */
export class Plan {
  readonly files: PlanFiles;
  readonly #private: PrivateFiles;
  readonly #name: string;

  private constructor(files: PrivateFiles, name: string, open: (name: string) => number) {
    this.#private = files;
    this.#name = name;
    const opened: number[] = [];
    try {
      for (const part of fileNames) opened.push(open(`${name}-${part}`));
    } catch (error) {
      closeAll(...opened);
      throw error;
    }
    const [removals = -1, arrivals = -1, touched = -1] = opened;
    this.files = { removals, arrivals, touched };
  }

  static create(files: PrivateFiles, id: string): Plan {
    try {
      return new Plan(files, `plan-${id}`, (name) => files.create(name));
    } catch (error) {
      for (const part of fileNames) files.remove(`plan-${id}-${part}`);
      throw error;
    }
  }

  /** Those that an earlier sandbox-agent began to carry out. */
  static *begun(files: PrivateFiles): Generator<{ plan: Plan; places: Places }, void> {
    for (const name of files.names().filter((name) => /^plan-[0-9a-f]+$/.test(name))) {
      const file = files.open(name);
      if (file === undefined) continue;
      try {
        // One that was cut off was not begun.
        const found = v.safeParse(v.pipe(v.string(), v.parseJson(), places), readFileSync(file, 'utf8'));
        if (found.success)
          yield { plan: new Plan(files, name, (part) => files.open(part) ?? -1), places: found.output };
      } finally {
        closeAll(file);
      }
    }
  }

  /** From now on it is undone at the next start, until it is removed. @throws a full disk */
  begin(at: Places): void {
    const file = this.#private.create(this.#name);
    try {
      writeSync(file, JSON.stringify(at satisfies Places));
    } finally {
      closeAll(file);
    }
  }

  /** It is carried out, or undone. */
  end(): void {
    this.#private.remove(this.#name);
  }

  /** What was there when it was made, and goes or is replaced; what a directory holds follows it. */
  async *uprooted(): AsyncGenerator<Restored, void> {
    for await (const [path, removal, arrival] of merged(
      removalsByPath(this.files.removals),
      linesOf<Arrival>(this.files.arrivals),
    )) {
      const was = removal?.was ?? arrival?.replaces;
      if (was && was.kind !== 'directory') yield { path, was };
    }
  }

  remove(): void {
    this.end();
    for (const part of fileNames) this.#private.remove(`${this.#name}-${part}`);
  }

  close(): void {
    closeAll(...Object.values(this.files));
  }
}

async function* removalsByPath(file: number): AsyncGenerator<Restored, void> {
  for await (const { was } of linesOf<Removal>(file)) yield { path: was.path, was };
}

/** Notes a plan. */
export class Planner {
  readonly #removals: LineWriter;
  readonly #arrivals: LineWriter;
  readonly #touched: LineWriter;
  readonly #levels: Level[];
  #removed = 0;

  constructor(root: TreeRoot, { files }: Plan) {
    this.#removals = new LineWriter(files.removals);
    this.#arrivals = new LineWriter(files.arrivals);
    this.#touched = new LineWriter(files.touched);
    this.#levels = [{ path: '', prefix: '', was: root.entry, isTouched: false, outcome: 'stays' }];
  }

  /** Goes to an entry. @returns the nearest directory above it, of all that are there or will be */
  async at(path: string): Promise<Pick<Level, 'path' | 'outcome'>> {
    const place = treeOrder(path);
    for (let level = this.#level; !place.startsWith(level.prefix); level = this.#level) {
      this.#levels.pop();
      await this.#note(level);
    }
    return this.#level;
  }

  async remove(was: TreeEntry): Promise<void> {
    this.#level.isTouched = true;
    this.#removed += 1;
    await this.#removals.write({ number: this.#removed, was } satisfies Removal);
    if (was.kind === 'directory') this.#enter(was.path, { was, wanted: null, outcome: 'goes' });
  }

  /** @param directory - what a directory is given at the end; left out: it is none */
  async add(path: string, number: number, directory?: Attributes, replaces?: TreeEntry): Promise<void> {
    this.#level.isTouched = true;
    const isDirectory = directory !== undefined;
    const inPlaceOf = replaces && replaces.kind !== 'directory' && { replaces };
    await this.#arrivals.write({ number, path, isDirectory, ...inPlaceOf } satisfies Arrival);
    if (replaces?.kind === 'directory') await this.remove(replaces);
    else if (directory) this.#enter(path, { wanted: directory, outcome: 'arrives' });
  }

  /** For a directory. @param wanted - left out: it is given nothing */
  stay(was: TreeEntry, wanted?: Attributes): void {
    this.#enter(was.path, { was, ...(wanted && { wanted }), outcome: 'stays' });
  }

  conflict(path: string): void {
    this.#enter(path, { outcome: 'conflict' });
  }

  async finish(): Promise<void> {
    for (const level of this.#levels.splice(0).reverse()) await this.#note(level);
    for (const lines of [this.#removals, this.#arrivals, this.#touched]) await lines.flush();
  }

  get #level(): Level {
    const level = this.#levels.at(-1);
    if (!level) throw new TypeError('The plan is finished.');
    return level;
  }

  #enter(path: string, level: Pick<Level, 'was' | 'wanted' | 'outcome'>): void {
    this.#levels.push({ path, prefix: `${treeOrder(path)}\0`, isTouched: false, ...level });
  }

  async #note({ path, was, wanted, isTouched }: Level): Promise<void> {
    if (wanted === undefined && !(was && isTouched)) return;
    const { mode, uid, gid } = was ?? { mode: 0, uid: 0, gid: 0 };
    await this.#touched.write({
      path,
      ...(was && { was }),
      wanted: wanted === undefined ? { mode, uid, gid } : wanted,
    } satisfies Touched);
  }
}
