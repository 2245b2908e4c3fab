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
    '45',
    '6',
    '9',
  ].map((mode) => [mode, 'l'] as const),
  ['1', 'l'],
  ['7', 'h'],
  ['25', 'h'],
]);

/** No sequence of these modes that a program writes is longer. */
const longest = 64;

/** Further state that programs set, by the sequence that does it, and what makes it usual again. */
const further = [
  { set: /\x1b\[>4(;\d+)?m/g, usual: /^$|^;0$/, restoring: '\x1b[>4m' }, // keys with their modifiers
  { set: /\x1b\[([<>]\d*)u/g, usual: /^</, restoring: '\x1b[<u' }, // keys as kitty sends them
  { set: /\x1b\[(\d*) q/g, usual: /^0?$/, restoring: '\x1b[0 q' }, // the look of the cursor
  { set: /\x1b\[(\d*;?\d*)r/g, usual: /^$/, restoring: '\x1b7\x1b[r\x1b8' }, // the lines that scroll
  { set: /\x1b\[4([hl])/g, usual: /^l$/, restoring: '\x1b[4l' }, // inserting
  { set: /\x1b\](104(?=[\x07\x1b])|4;\d+;(?!\?))/g, usual: /^104$/, restoring: '\x1b]104\x07' }, // the palette
  { set: /\x1b\](110|10;(?!\?))/g, usual: /^110$/, restoring: '\x1b]110\x07' }, // the colour of text
  { set: /\x1b\](111|11;(?!\?))/g, usual: /^111$/, restoring: '\x1b]111\x07' }, // of what is behind it
  { set: /\x1b\](112|12;(?!\?))/g, usual: /^112$/, restoring: '\x1b]112\x07' }, // of the cursor
  { set: /\x1b\]8;[^;\x07\x1b]*;([^\x07\x1b]?)/g, usual: /^$/, restoring: '\x1b]8;;\x07' }, // a link
] as const;

/** Sees what is written to a terminal, to put back what a program that was killed could not. */
export class TerminalModes {
  readonly #now = new Map<string, string>();
  readonly #unusual = new Set<string>();
  #rest = '';

  see(bytes: Uint8Array): void {
    const text = this.#rest + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    for (const [, modes = '', value = ''] of text.matchAll(/\x1b\[\?([\d;]+)([hl])/g)) {
      for (const mode of modes.split(';')) if (usual.has(mode)) this.#now.set(mode, value);
    }
    for (const { set, usual: isUsual, restoring } of further) {
      for (const [, value = ''] of text.matchAll(set)) {
        if (isUsual.test(value)) this.#unusual.delete(restoring);
        else this.#unusual.add(restoring);
      }
    }
    // The last one may be cut. Seen again as a whole it changes nothing.
    const last = text.lastIndexOf('\x1b');
    this.#rest = last === -1 || text.length - last > longest ? '' : text.slice(last);
  }

  /** What makes the terminal usual again; plain text, letters and keys in any case. */
  get restoring(): string {
    const changed = [...usual].filter(([mode, value]) => this.#now.has(mode) && this.#now.get(mode) !== value);
    const others = further.filter(({ restoring }) => this.#unusual.has(restoring)).map(({ restoring }) => restoring);
    return `${changed.map(([mode, value]) => `\x1b[?${mode}${value}`).join('')}${others.join('')}\x1b[0m\x1b(B\x1b>`;
  }
}
