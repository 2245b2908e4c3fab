/** A terminal of a few commands: those that the screen uses. What else it is sent is a bug, and throws. */
export class Terminal {
  columns: number;
  rows = 24;
  readonly isTTY = true;
  #lines: string[] = [''];
  #row = 0;
  #column = 0;
  writes = 0;

  constructor(columns: number) {
    this.columns = columns;
  }

  write(text: string): boolean {
    this.writes++;
    for (const part of text.match(/\x1b\[[?\d]*[A-Za-z]|\n|\r|[^\x1b\n\r]+/g) ?? []) this.#do(part);
    return true;
  }

  /** What is seen, without empty lines at the end. */
  get lines(): string[] {
    const end = this.#lines.findLastIndex((line) => line.trim() !== '');
    return this.#lines.slice(0, end + 1).map((line) => line.trimEnd());
  }

  #do(part: string): void {
    if (part === '\n') {
      this.#row++;
      this.#column = 0;
      this.#lines[this.#row] ??= '';
    } else if (part === '\r') {
      this.#column = 0;
    } else if (part === '\x1b[K') {
      this.#lines[this.#row] = (this.#lines[this.#row] ?? '').slice(0, this.#column);
    } else if (part === '\x1b[J') {
      this.#lines[this.#row] = (this.#lines[this.#row] ?? '').slice(0, this.#column);
      this.#lines.length = this.#row + 1;
    } else if (/^\x1b\[\d+A$/.test(part)) {
      this.#row = Math.max(0, this.#row - Number(part.slice(2, -1)));
    } else if (/^\x1b\[(?:\d+m|\?25[hl])$/.test(part)) {
      // Colours and the cursor leave no text.
    } else if (part.startsWith('\x1b')) {
      throw new Error(`not a command of this terminal: ${JSON.stringify(part)}`);
    } else {
      if (this.#column + part.length > this.columns) throw new Error(`a line is too long: ${part}`);
      const line = (this.#lines[this.#row] ?? '').padEnd(this.#column);
      this.#lines[this.#row] = line.slice(0, this.#column) + part + line.slice(this.#column + part.length);
      this.#column += part.length;
    }
  }
}
