import * as v from 'valibot';
import { type LoopTool, type ToolResult, textResult } from '../model/tool.ts';
import { boundaryBefore } from '../model/utf8.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { resourceText } from '../skills/resources.ts';
import { checkedTool } from './arguments.ts';
import { contentKind, imageTypes } from './content-kind.ts';
import { CUT_BYTES, CUT_LINES } from './cut.ts';
import type { ToolEnvironment } from './tool-environment.ts';

const IMAGE_LIMIT = 10 * 1024 * 1024;
const SNIFFED_BYTES = 8 * 1024;
const NEWLINE = 0x0a;

/** The arguments of tools that read lines. */
export function readInput(path: string) {
  return v.strictObject({
    path: v.pipe(v.string(), v.minLength(1), v.description(path)),
    offset: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.description('The first line, from 1'))),
    limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.description('How many lines at most'))),
  });
}

export function readTool({ env, seesImages, skills = [] }: ToolEnvironment): LoopTool {
  return checkedTool({
    name: 'read',
    description:
      `Reads a text file, as it is, without line numbers. At most ${CUT_LINES} lines or ${CUT_BYTES / 1024} KB are given; a last line ` +
      'then says where to go on. Images (PNG, JPEG, GIF, WebP) are shown.',
    order: 'after-sequential',
    input: readInput('The file, absolute or relative to the working directory'),
    async run({ path, offset = 1, limit = Number.POSITIVE_INFINITY }) {
      const resource = resourceText(skills, env.resolvePath(path));
      if (resource !== undefined) return textLines(path, resource, { offset, limit });
      const stat = await env.stat(path);
      if (stat.isDirectory) throw new Error(`EISDIR: ${path} is a directory; use glob to see what is in it.`);
      const chunks = fileBytes(env, path);
      try {
        const { head, rest } = await sniffed(chunks);
        const kind = contentKind(head);
        const image = imageTypes.has(kind);
        if (image && seesImages) {
          if (stat.size !== undefined && stat.size > IMAGE_LIMIT) throw tooLarge(path, kind, stat.size);
          return await readImage(path, kind, rest);
        }
        // Its last character may be cut by the end of the head, so that says nothing.
        const text = !image && !head.subarray(0, SNIFFED_BYTES).includes(0) && decodes(head, { stream: true });
        if (!text) throw notText(path, kind, stat.size);
        const lines = await readLines(rest, { offset, limit });
        if (lines.bytes !== undefined && !decodes(lines.bytes)) throw notText(path, kind, stat.size);
        return textResult(lineText(path, lines, offset));
      } finally {
        await chunks.return(undefined); // also where its first bytes were enough
      }
    },
  });
}

/** Lines of a text as `read` gives them. */
export async function textLines(
  path: string,
  text: string,
  { offset = 1, limit = Number.POSITIVE_INFINITY }: { offset?: number | undefined; limit?: number | undefined },
): Promise<ToolResult> {
  async function* bytes() {
    yield Buffer.from(text);
  }
  return textResult(lineText(path, await readLines(bytes(), { offset, limit }), offset));
}

async function* fileBytes(env: SandboxEnv, path: string): AsyncGenerator<Uint8Array> {
  if (env.createReadStream) yield* env.createReadStream(path);
  else yield env.readFileBuffer(path);
}

/** The first bytes of a file, and all of it again. */
async function sniffed(chunks: AsyncGenerator<Uint8Array>) {
  const first: Uint8Array[] = [];
  let length = 0;
  while (length < SNIFFED_BYTES) {
    const next = await chunks.next();
    if (next.done) break;
    first.push(next.value);
    length += next.value.length;
  }
  async function* rest() {
    yield* first;
    yield* chunks;
  }
  return { head: Buffer.concat(first).subarray(0, SNIFFED_BYTES), rest: rest() };
}

async function readImage(path: string, kind: string, chunks: AsyncIterable<Uint8Array>): Promise<ToolResult> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    length += chunk.length;
    if (length > IMAGE_LIMIT) throw tooLarge(path, kind, length); // where `stat` does not know sizes
  }
  const data = Buffer.concat(parts).toString('base64');
  return {
    content: [
      { type: 'text', text: `${path} (${kind}, ${length} bytes)` },
      { type: 'image', data, mimeType: kind },
    ],
  };
}

interface Lines {
  /** What is given; `undefined` when `offset` is past the end. */
  bytes?: Buffer;
  /** How many lines `bytes` has, the first part of a too long one included. */
  count: number;
  /** Lines of the file; known where something is missing. */
  total?: number;
  /** More was asked for than is given. */
  cut: boolean;
  /** The first line alone was too long: `bytes` is its beginning. */
  cutInLine: boolean;
}

/** Collects lines until one of the limits. Reads on only to count what is missing. */
async function readLines(
  chunks: AsyncIterable<Uint8Array>,
  { offset, limit }: { offset: number; limit: number },
): Promise<Lines> {
  const given: Uint8Array[] = [];
  let givenBytes = 0;
  let line: Uint8Array[] = [];
  let lineBytes = 0;
  let count = 0;
  let newlines = 0;
  let endsInLine = false;
  let cut = false;
  let cutInLine = false;

  /** Takes the line that was collected, if it fits. */
  const take = () => {
    if (givenBytes + lineBytes <= CUT_BYTES) {
      given.push(...line);
      givenBytes += lineBytes;
      count++;
    } else {
      cut = true;
      if (count === 0) {
        cutInLine = true;
        count = 1;
        const start = Buffer.concat(line);
        given.push(start.subarray(0, boundaryBefore(start, CUT_BYTES)));
      }
    }
    line = [];
    lineBytes = 0;
  };

  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.length; ) {
      const newline = chunk.indexOf(NEWLINE, start);
      const end = newline === -1 ? chunk.length : newline + 1;
      const wanted = newlines + 1 >= offset && !cut;
      if (wanted && count === limit) return { bytes: Buffer.concat(given), count, cut: false, cutInLine };
      if (wanted && count === CUT_LINES) cut = true;
      else if (wanted) {
        // What can't be given any more need not be kept; one byte over the limit is enough to see it.
        const kept = chunk.subarray(start, Math.min(end, start + CUT_BYTES + 1));
        if (lineBytes <= CUT_BYTES) line.push(kept);
        lineBytes += end - start;
        if (newline !== -1) take();
      }
      endsInLine = newline === -1;
      if (newline !== -1) newlines++;
      start = end;
    }
  }
  if (lineBytes > 0) take();
  const total = newlines + (endsInLine ? 1 : 0);
  if (offset > Math.max(1, total)) return { count, total, cut, cutInLine };
  return { bytes: Buffer.concat(given), count, total, cut, cutInLine };
}

function lineText(path: string, { bytes, count, total, cut, cutInLine }: Lines, offset: number): string {
  if (bytes === undefined) throw new Error(`${path} has ${total} lines; offset ${offset} is past its end.`);
  const text = bytes.toString();
  if (!cut) return text;
  const lines = count === 1 ? `Line ${offset}` : `Lines ${offset} to ${offset + count - 1}`;
  const goOn = offset + count <= (total ?? 0) ? ` Go on with offset ${offset + count}.` : '';
  const note = cutInLine
    ? `Line ${offset} of ${total} is longer than ${CUT_BYTES / 1024} KB: this is its beginning, and the rest of it can't be reached by offset.${goOn}`
    : `${lines} of ${total}.${goOn}`;
  return `${text}${text.endsWith('\n') ? '' : '\n'}[${note}]`;
}

function decodes(bytes: Uint8Array, options?: { stream: boolean }): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, options);
    return true;
  } catch {
    return false;
  }
}

function notText(path: string, kind: string, size: number | undefined): Error {
  return new Error(`${path} is not UTF-8 text (${kind}${size === undefined ? '' : `, ${size} bytes`}).`);
}

function tooLarge(path: string, kind: string, size: number): Error {
  return new Error(`${path} is too large to be shown (${kind}, ${size} bytes; at most ${IMAGE_LIMIT}).`);
}
