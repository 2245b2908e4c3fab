import { calls, writeAll } from '../calls.ts';

const pieceBytes = 64 * 1024;
const newline = 0x0a;

/** Writes JSON values into a file of our own, a line each. */
export class LineWriter {
  readonly #file: number;
  #lines: string[] = [];
  #length = 0;

  constructor(file: number) {
    this.#file = file;
  }

  async write(value: object): Promise<void> {
    const line = `${JSON.stringify(value)}\n`;
    this.#lines.push(line);
    this.#length += line.length;
    if (this.#length >= pieceBytes) await this.flush();
  }

  async flush(): Promise<void> {
    const bytes = Buffer.from(this.#lines.join(''));
    this.#lines = [];
    this.#length = 0;
    if (bytes.length > 0) await writeAll(this.#file, [bytes]);
  }
}

/** The values in such a file, from the first on. */
export async function* linesOf<Line>(file: number): AsyncGenerator<Line, void> {
  let rest = Buffer.alloc(0);
  for (let at = 0; ; ) {
    const piece = Buffer.allocUnsafe(pieceBytes);
    const bytesRead = await calls.read(file, piece, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    const bytes = Buffer.concat([rest, piece.subarray(0, bytesRead)]);
    let start = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
      yield parsed(bytes.subarray(start, end));
      start = end + 1;
    }
    rest = bytes.subarray(start);
  }
}

/** As `linesOf`, from the last one on. */
export async function* linesBackwards<Line>(file: number): AsyncGenerator<Line, void> {
  let rest = Buffer.alloc(0);
  for (let at = (await calls.fstat(file)).size; at > 0; ) {
    const piece = Buffer.allocUnsafe(Math.min(pieceBytes, at));
    at -= piece.length;
    for (let filled = 0; filled < piece.length; ) {
      filled += await calls.read(file, piece.subarray(filled), at + filled);
    }
    const bytes = Buffer.concat([piece, rest]);
    let end = bytes.length;
    for (let start = before(bytes, end); start !== -1; start = before(bytes, end)) {
      yield parsed(bytes.subarray(start + 1, end));
      end = start + 1;
    }
    rest = bytes.subarray(0, end);
  }
  if (rest.length > 0) yield parsed(rest);
}

/** The newline before the line that ends at `end`, with its own. */
function before(bytes: Buffer, end: number): number {
  return end < 2 ? -1 : bytes.lastIndexOf(newline, end - 2);
}

function parsed<Line>(line: Buffer): Line {
  return JSON.parse(line.toString()) as Line; // nobody else writes to these files
}
