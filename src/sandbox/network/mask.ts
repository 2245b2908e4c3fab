import { Transform } from 'node:stream';

/** What stands in place of each byte: what is said of a length stays true. */
const star = 0x2a;

/**
 * Passes bytes on, with stars in place of each of the forms of a secret, also of one that comes in pieces. What may be the
 * beginning of one is kept until the next bytes are there, everything else goes on at once.
 */
export class Mask extends Transform {
  readonly #forms: readonly Buffer[];
  #held = Buffer.alloc(0);
  /** Of `#held`, from its begin, the bytes that are of one that was found already. */
  #found = 0;

  constructor(forms: readonly Buffer[]) {
    super();
    this.#forms = forms;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null, data?: Buffer) => void) {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const ranges = find(bytes, this.#forms);
    if (this.#found > 0) ranges.push({ start: 0, end: this.#found });
    const cut = this.#beginOfRest(bytes);
    const told = stars(bytes.subarray(0, cut), ranges);
    this.#held = Buffer.from(bytes.subarray(cut)); // not a view of a large chunk
    this.#found = Math.max(0, ...ranges.map(({ end }) => end - cut));
    done(null, told);
  }

  override _flush(done: (error?: Error | null, data?: Buffer) => void) {
    done(null, stars(this.#held, [{ start: 0, end: this.#found }]));
  }

  /** Where the longest end begins that is the beginning of a form. */
  #beginOfRest(bytes: Buffer): number {
    let cut = bytes.length;
    for (const form of this.#forms) {
      const [first = 0] = form;
      let start = bytes.indexOf(first, Math.max(0, bytes.length - form.length + 1));
      for (; start !== -1 && start < cut; start = bytes.indexOf(first, start + 1)) {
        if (form.subarray(0, bytes.length - start).equals(bytes.subarray(start))) cut = start;
      }
    }
    return cut;
  }
}

/** The text, in Latin-1, with stars in place of each form. */
export function masked(text: string, forms: readonly Buffer[]): string {
  if (forms.length === 0) return text;
  const bytes = Buffer.from(text, 'latin1');
  return stars(bytes, find(bytes, forms)).toString('latin1');
}

function find(bytes: Buffer, forms: readonly Buffer[]): { start: number; end: number }[] {
  const ranges: { start: number; end: number }[] = [];
  for (const form of forms) {
    for (let start = bytes.indexOf(form); start !== -1; start = bytes.indexOf(form, start + 1)) {
      ranges.push({ start, end: start + form.length });
    }
  }
  return ranges;
}

function stars(bytes: Buffer, ranges: readonly { start: number; end: number }[]): Buffer {
  if (ranges.length === 0) return bytes;
  const result = Buffer.from(bytes);
  for (const { start, end } of ranges) result.fill(star, Math.min(start, bytes.length), Math.min(end, bytes.length));
  return result;
}
