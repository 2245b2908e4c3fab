/**
 * The private modes of xterm that full-screen programs switch, and how a shell finds them: the alternate screen, the
 * mouse, pasting, focus, the cursor and its keys, line wrap, drawing at once.
 */
const usual = new Map<string, 'h' | 'l'>([
  ...[
    '1049',
    '1047',
    '47',
    '1000',
    '1001',
    '1002',
    '1003',
    '1004',
    '1005',
    '1006',
    '1015',
    '1016',
    '2004',
    '2026',
    '9',
  ].map((mode) => [mode, 'l'] as const),
  ['1', 'l'],
  ['7', 'h'],
  ['25', 'h'],
]);

/** No sequence of these modes that a program writes is longer. */
const longest = 64;

/** Sees what is written to a terminal, to put back what a program that was killed could not. */
export class TerminalModes {
  readonly #now = new Map<string, string>();
  #rest = '';

  see(bytes: Uint8Array): void {
    const text = this.#rest + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    for (const [, modes = '', value = ''] of text.matchAll(/\x1b\[\?([\d;]+)([hl])/g)) {
      for (const mode of modes.split(';')) if (usual.has(mode)) this.#now.set(mode, value);
    }
    // The last one may be cut. Seen again as a whole it changes nothing.
    const last = text.lastIndexOf('\x1b');
    this.#rest = last === -1 || text.length - last > longest ? '' : text.slice(last);
  }

  /** What makes the terminal usual again; plain text, letters and keys in any case. */
  get restoring(): string {
    const changed = [...usual].filter(([mode, value]) => this.#now.has(mode) && this.#now.get(mode) !== value);
    return `${changed.map(([mode, value]) => `\x1b[?${mode}${value}`).join('')}\x1b[0m\x1b(B\x1b>`;
  }
}
