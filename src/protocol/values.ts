import * as v from 'valibot';
import { limits } from './limits.ts';
import { isName, nameBytes } from './names.ts';

// Strings are bounded in bytes of UTF-8, as Linux counts them (`maxLength` would count UTF-16 units), and hold no NUL:
// the kernel would cut an argument, a variable or a path there.
const text = (maxBytes: number) => v.pipe(v.string(), v.maxBytes(maxBytes), v.check(noNul, 'holds a NUL'));

function noNul(value: string): boolean {
  return !value.includes('\0');
}

/** Process, user and group ids among them: Linux has none that is larger. */
export const uint32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff_ffff));

/** Numbers a request; its answer carries the same number. */
export const requestId = v.pipe(uint32, v.safeInteger());

/** A stream that the sender of the message opens with it. 0 is not one. */
export const streamId = v.pipe(uint32, v.minValue(1));

/** A count of bytes, or an offset into a file or an output. */
export const byteCount = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

export const durationMs = v.pipe(v.number(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));

/** A time limit. What is over 2^31 ms would fire a timer of Node at once. */
export const timeoutMs = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 31 - 1));

/** Milliseconds since 1970; before it is negative. A file may carry any. */
export const time = v.pipe(v.number(), v.finite());

export const key = v.pipe(text(limits.key), v.minLength(1));
export const name = v.pipe(text(limits.name), v.minLength(1));

/** The id of a process or session: chosen by the side that makes it. */
export const id = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,64}$/));

/** It may name a file: see `names.ts` for bytes that are no UTF-8. */
export const argument = v.pipe(text(limits.argument), v.check(isName, 'holds half a character'));

/** A path, or a part of one, as it is: see `names.ts` for bytes that are no UTF-8. */
export const fileName = v.pipe(
  v.string(),
  v.minLength(1),
  v.check((value) => nameBytes(value) <= limits.path, `has more than ${limits.path} bytes`),
  v.check(noNul, 'holds a NUL'),
  v.check(isName, 'holds half a character'),
);

/** As far as a `Date` goes from 1970, either way: ECMA-262, 21.4.1.1. */
export const maxDateMs = 8.64e15;

/** One name in a directory. */
export const entryName = v.pipe(
  fileName,
  v.check((value) => value !== '.' && value !== '..' && !value.includes('/'), 'is more than a name'),
);

/** A path of something below a directory: joined to another one, it does not lead out of that. */
export const pathBelow = v.pipe(
  fileName,
  v.check((value) => !value.startsWith('/') && !value.split('/').includes('..'), 'leads out'),
);

/** Absolute, and as it is: `.`, `..` and links in it mean what they mean to the kernel. */
export const absolutePath = v.pipe(fileName, v.startsWith('/'));

/** Pairs, not a record: Valibot's record drops the names `constructor` and `prototype` without a word. */
export const environment = v.pipe(
  v.array(v.strictTuple([v.pipe(text(limits.name), v.regex(/^[^=]+$/)), argument])),
  v.maxLength(limits.environment),
);
export type Environment = v.InferOutput<typeof environment>;

const cells = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(limits.terminal));

/** Of a terminal, in characters. */
export const terminalSize = v.strictObject({ columns: cells, rows: cells });
export type TerminalSize = v.InferOutput<typeof terminalSize>;

/** As in `ls -l`: permissions and the bits above them, without the file type. */
export const mode = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0o7777));

/** Permission bits that a file which is made does not get: umask(2). */
export const umask = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0o777));

/** `name`, `uid`, `name:group` or `uid:gid`, as the engine takes it; looked up in the sandbox. */
export const user = v.pipe(text(limits.name), v.regex(/^[^:\s]+(:[^:\s]+)?$/));

/** Signal names of Linux that a process can be sent. */
export const signal = v.pipe(v.string(), v.regex(/^SIG[A-Z0-9]{1,12}$/));

export const errorText = v.pipe(v.string(), v.maxBytes(limits.errorText));
