import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import * as v from 'valibot';
import { type Assignment, keptAssignment } from '../../src/protocol/assign.ts';
import { limits } from '../../src/protocol/limits.ts';
import { parser } from '../../src/protocol/messages.ts';
import { type ProcessEnd, processEnd } from '../../src/protocol/process.ts';
import { checkpointsName, partsName } from '../../src/protocol/socket.ts';
import { byteCount, id, time, uint32 } from '../../src/protocol/values.ts';
import { asRoot } from '../identity.ts';

const MiB = 1024 * 1024;

/** What the outputs of all processes may take of the disk together. */
const keptBytes = 1024 * MiB;
/** The journal is written anew when it has grown by this: most of it is then about processes that were dropped. */
const journalBytes = 4 * MiB;

const startOfProcess = v.strictObject({
  processId: id,
  sessionId: id,
  key: v.optional(v.pipe(v.string(), v.maxLength(2 * limits.key))),
  /** A hash of what the key was first used for. */
  asked: v.optional(v.pipe(v.string(), v.maxLength(64))),
  argv: v.pipe(v.array(v.string()), v.maxLength(limits.listedArguments)),
  pid: uint32,
  startedAt: time,
  terminal: v.boolean(),
});
export type StartOfProcess = v.InferOutput<typeof startOfProcess>;

const entry = v.variant('type', [
  v.strictObject({ type: v.literal('started'), start: startOfProcess }),
  v.strictObject({ type: v.literal('ended'), processId: id, end: processEnd }),
  v.strictObject({ type: v.literal('dropped'), processId: id }),
]);
export type Entry = v.InferOutput<typeof entry>;
const parseEntry = parser(entry);
const parseAssignment = parser(keptAssignment);
const assignmentName = 'assignment';

/** A piece of an output in a file of its own, from byte `start` of the output on. */
export interface Segment {
  start: number;
  length: number;
}

/** What an earlier sandbox-agent of this sandbox has left of a process. `end` is missing when it died with it. */
export interface KeptProcess {
  start: StartOfProcess;
  end: ProcessEnd | undefined;
  segments: { stdout: Segment[]; stderr: Segment[] };
}

const outputs = { stdout: '1', stderr: '2' } as const;
export type OutputName = keyof typeof outputs;
const segmentName = /^([A-Za-z0-9_-]{1,64})\.([12])\.(\d{1,15})$/;
const byteOffset = v.pipe(v.unknown(), v.transform(Number), byteCount);

/**
 * What is kept of processes, on a volume that lives as long as the container: a stop or the death of the sandbox-agent
 * leaves it, and it goes with the sandbox. The path leads through a directory that only the sandbox-agent's group may enter,
 * so that no command, as root neither, can read or change what is here.
 *
 * Written without fsync: it is to outlive this process, not the machine.
 */
export class KeptDirectory {
  /** Of all outputs. */
  bytes = 0;
  readonly #path: string;
  #journal: number | undefined;
  #journalGrowth = 0;
  /** What is to be written. */
  #lines = '';

  /** To be called before `restAs`: later only the descriptor leads here. */
  constructor(path: string) {
    this.#path = `/proc/self/fd/${openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)}`;
  }

  get isFull(): boolean {
    return this.bytes > keptBytes;
  }

  get isJournalLong(): boolean {
    return this.#journalGrowth > journalBytes;
  }

  /** What is there, the oldest first. What can't be read, or belongs to nothing, is passed over and removed. */
  restore(): KeptProcess[] {
    const found = new Map<string, KeptProcess>();
    for (const line of this.#journalLines()) {
      const read = parsed(line);
      if (read?.type === 'started') {
        found.set(read.start.processId, { start: read.start, end: undefined, segments: { stdout: [], stderr: [] } });
      } else if (read?.type === 'ended') {
        const one = found.get(read.processId);
        if (one) one.end = read.end;
      } else if (read?.type === 'dropped') {
        found.delete(read.processId);
      }
    }
    for (const name of readdirSync(this.#path)) this.#restoreFile(name, found);
    for (const { segments } of found.values()) {
      for (const list of Object.values(segments)) list.sort((one, other) => one.start - other.start);
    }
    this.#rewrite(
      [...found.values()].flatMap(({ start, end }) => [
        { type: 'started', start },
        ...(end ? [{ type: 'ended' as const, processId: start.processId, end }] : []),
      ]),
    );
    return [...found.values()];
  }

  /** What a sandbox from a pool was told. `undefined`: it is of no pool, or still in it. */
  readAssignment(): Assignment | undefined {
    try {
      return parseAssignment(readFileSync(`${this.#path}/${assignmentName}`));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** To be called as root. @throws a full disk */
  writeAssignment(assignment: Assignment): void {
    const path = `${this.#path}/${assignmentName}`;
    writeFileSync(`${path}.new`, JSON.stringify(assignment), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /**
   * In the kernel's hands before what waits for its caller goes on, and so before the host is told. What finds no room on
   * the disk is not kept beyond this sandbox-agent.
   */
  write(record: Entry): void {
    if (this.#journal === undefined) return;
    // Of a crowd that is started together it is one write.
    if (this.#lines === '') queueMicrotask(() => this.#flush());
    // Ahead of it: what a full disk has cut off before ends there.
    this.#lines += `\n${JSON.stringify(record)}`;
  }

  #flush(): void {
    const lines = this.#lines;
    this.#lines = '';
    this.#journalGrowth += lines.length;
    try {
      if (this.#journal !== undefined) writeSync(this.#journal, lines);
    } catch {
      // The disk is full.
    }
  }

  /** Writes the journal anew, with these entries only. */
  rewrite(entries: Entry[]): void {
    this.#flush();
    asRoot(() => this.#rewrite(entries));
  }

  /** A new file for the output of a process, from byte `start` on. */
  create(processId: string, output: OutputName, start: number): number {
    return asRoot(() => openSync(this.#name(processId, output, start), 'wx', 0o600));
  }

  open(processId: string, output: OutputName, start: number): number {
    return asRoot(() => openSync(this.#name(processId, output, start), 'r'));
  }

  remove(processId: string, output: OutputName, { start, length }: Segment): void {
    this.bytes -= length;
    asRoot(() => remove(this.#name(processId, output, start)));
  }

  #name(processId: string, output: OutputName, start: number): string {
    return `${this.#path}/${processId}.${outputs[output]}.${start}`;
  }

  #journalLines(): string[] {
    try {
      return readFileSync(`${this.#path}/journal`, 'utf8').split('\n');
    } catch {
      return []; // a new sandbox
    }
  }

  #restoreFile(name: string, found: Map<string, KeptProcess>): void {
    if (['journal', assignmentName, partsName, checkpointsName].includes(name)) return;
    const [, processId = '', output, start] = segmentName.exec(name) ?? [];
    const segments = found.get(processId)?.segments;
    const offset = v.safeParse(byteOffset, start);
    const length = segments && offset.success ? sizeOf(`${this.#path}/${name}`) : 0;
    if (segments && offset.success && length > 0) {
      segments[output === outputs.stdout ? 'stdout' : 'stderr'].push({ start: offset.output, length });
      this.bytes += length;
    } else {
      remove(`${this.#path}/${name}`);
    }
  }

  #rewrite(entries: Entry[]): void {
    const path = `${this.#path}/journal`;
    try {
      const file = openSync(`${path}.new`, 'w', 0o600);
      try {
        const bytes = Buffer.from(entries.map((one) => JSON.stringify(one)).join('\n'));
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
        renameSync(`${path}.new`, path);
      } finally {
        closeSync(file);
      }
      if (this.#journal !== undefined) closeSync(this.#journal);
      this.#journal = openSync(path, 'a', 0o600);
      this.#journalGrowth = 0;
    } catch {
      // The disk is full: the old one goes on.
      this.#journal ??= openJournal(path);
      this.#journalGrowth = 0;
    }
  }
}

function openJournal(path: string): number | undefined {
  try {
    return openSync(path, 'a', 0o600);
  } catch {
    return undefined;
  }
}

function parsed(line: string): Entry | undefined {
  if (line === '') return undefined;
  try {
    return parseEntry(Buffer.from(line));
  } catch {
    return undefined; // cut off by a full disk
  }
}

function sizeOf(path: string): number {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return fstatSync(file).size;
  } finally {
    closeSync(file);
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It is gone.
  }
}
