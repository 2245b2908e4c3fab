import { constants, promises as fs } from 'node:fs';
import { basename } from 'node:path/posix';
import { createContext, Script } from 'node:vm';
import type { FsGrep, FsMatch } from '../../src/protocol/fs.ts';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { nameBytes, nameOfBytes } from '../../src/protocol/names.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { calls } from './calls.ts';
import type { Found } from './glob.ts';
import { ignoreRulesAbove } from './ignore.ts';
import { codeOf, kernelPath, type Path } from './path.ts';
import { globMatcher } from './pattern.ts';
import { RecordWriter } from './records.ts';
import { openRegularFile } from './regular-file.ts';
import { walk } from './walk.ts';

const blockBytes = 64 * 1024;
/** A line is searched so far: no more of it is in memory. */
const lineBytes = 1024 * 1024;
/** A NUL so near to the start makes a file binary. */
const binaryProbeBytes = 8 * 1024;
const textLength = 500;
/** Any sane expression needs less than a thousandth of this for a block. */
const blockTimeoutMs = 500;
const newline = 0x0a;

/**
 * A search of our own, for images without ripgrep. Paths are relative to `path`, or the file's name when that is a
 * file. Links are not followed.
 */
export async function grep(request: FsGrep, stream: WireStream, signal: AbortSignal): Promise<Found> {
  try {
    const matches = lineMatcher(request);
    const records = new RecordWriter(stream, signal);
    const pace = new Pace(signal);
    let total = 0;
    for await (const { path, location } of filesOf(request, pace)) {
      if (nameBytes(path) > limits.path) continue;
      for await (const { line, text } of matchingLines(location, matches, pace)) {
        total += 1;
        if (total <= request.limit) await records.write({ path, line, text } satisfies FsMatch);
      }
    }
    await records.flush();
    stream.end();
    return { total, truncated: total > request.limit };
  } catch (error) {
    stream.reset();
    throw error;
  }
}

async function* filesOf({ path, include }: FsGrep, pace: Pace): AsyncGenerator<{ path: string; location: Path }> {
  const isIncluded = include === undefined ? () => true : globMatcher(include);
  if (!(await fs.stat(kernelPath(path))).isDirectory()) {
    // An error of a file that was named is one; that of a file which was found is passed over.
    const [file] = await openRegularFile(path, constants.O_RDONLY);
    await calls.close(file);
    yield { path: basename(path), location: path };
    return;
  }
  const root = nameOfBytes(await fs.realpath(kernelPath(path), 'buffer'));
  for await (const file of walk(root, pace, await ignoreRulesAbove(root))) {
    if (!file.isLink && isIncluded(file.path)) yield file;
  }
}

type LineMatcher = (lines: string[]) => number[];

/**
 * Gives the indexes of the lines that match. An expression may need ages for a line (`(a+)+$`), and nothing else would
 * run meanwhile: V8 stops it in the middle when it is started through `vm` with a time limit. A worker could be ended
 * too, but costs several MiB and the way of every block to it.
 * @throws {RequestError} from here `invalid_pattern`, from the matcher `pattern_too_slow`
 */
function lineMatcher({ pattern, literal }: FsGrep): LineMatcher {
  if (literal) return (lines) => indexesWhere(lines, (line) => line.includes(pattern));
  const expression = compile(pattern);
  const script = new Script('search()');
  const context: { search?: () => void } = createContext({});
  return (lines) => {
    let found: number[] = [];
    context.search = () => {
      found = indexesWhere(lines, (line) => expression.test(line));
    };
    try {
      script.runInContext(context, { timeout: blockTimeoutMs });
    } catch (error) {
      if (codeOf(error) !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      throw new RequestError('pattern_too_slow', `The search was stopped: ${pattern.slice(0, 200)} takes too long.`);
    }
    return found;
  };
}

function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'u');
  } catch (error) {
    throw new RequestError('invalid_pattern', error instanceof Error ? error.message : String(error));
  }
}

function indexesWhere(lines: string[], matches: (line: string) => boolean): number[] {
  const indexes: number[] = [];
  for (const [index, line] of lines.entries()) if (matches(line)) indexes.push(index);
  return indexes;
}

async function* matchingLines(
  location: Path,
  matches: LineMatcher,
  pace: Pace,
): AsyncGenerator<{ line: number; text: string }> {
  const file = await openFound(location);
  if (!file) return;
  try {
    let first = 1;
    for await (const lines of lineBlocks(file)) {
      for (const index of matches(lines)) yield { line: first + index, text: cut(lines[index] ?? '') };
      first += lines.length;
      await pace.turn();
    }
  } finally {
    await calls.close(file);
  }
}

/** `undefined` for what can't be read, or is gone, or is no file any more. */
async function openFound(location: Path): Promise<number | undefined> {
  try {
    const [file] = await openRegularFile(location, constants.O_RDONLY);
    return file;
  } catch (error) {
    if (codeOf(error) === undefined || codeOf(error) === 'EMFILE') throw error;
    return undefined;
  }
}

/** The lines of a text file, a block at a time; nothing of a binary one. */
async function* lineBlocks(file: number): AsyncGenerator<string[]> {
  const buffer = Buffer.allocUnsafe(blockBytes);
  let rest = Buffer.alloc(0); // a line whose end has not come yet
  for (let at = 0; ; ) {
    const block = buffer.subarray(0, await readUnlessBroken(file, buffer));
    if (block.length === 0) break;
    if (at === 0 && block.subarray(0, binaryProbeBytes).includes(0)) return;
    at += block.length;
    const isFull = rest.length >= lineBytes;
    const end = block.lastIndexOf(newline);
    if (end === -1) {
      if (!isFull) rest = Buffer.concat([rest, block]);
      continue;
    }
    // The end of a line that is too long is passed over.
    const start = isFull ? block.indexOf(newline) : 0;
    yield toLines(Buffer.concat([rest, block.subarray(start, end)]));
    rest = Buffer.from(block.subarray(end + 1)); // copied: the buffer is used again
  }
  if (rest.length > 0) yield toLines(rest);
}

/** Some files of /proc and /sys can be opened and not read: they end there. */
async function readUnlessBroken(file: number, buffer: Buffer): Promise<number> {
  try {
    return await calls.read(file, buffer, null);
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return 0;
  }
}

function toLines(bytes: Buffer): string[] {
  // A CR before the end of a line belongs to the end, that `$` may match before it.
  return bytes.toString().replace(/\r$/, '').split(/\r?\n/);
}

/** Not within a character that takes two units. */
function cut(text: string): string {
  return text.slice(0, textLength).replace(/[\uD800-\uDBFF]$/, '');
}
