import { SerializeAddon } from '@xterm/addon-serialize';
import { Terminal } from '@xterm/headless';
import type { TerminalSize } from '../../src/protocol/values.ts';
import { restore } from './restore.ts';
import { Unfinished } from './unfinished.ts';

/** A screen, and from which byte of the output on it is to be gone on with. */
export interface Restored {
  screen: Uint8Array;
  from: number;
}

// The kernel has room for 65,535 columns and rows, of which a screen would take gigabytes.
const mostColumns = 1_000;
const mostRows = 500;
/** Lines above the screen: as many as this at most, and fewer when they are long. A cell takes 12 bytes. */
const mostScrollback = 1_000;
const scrollbackCells = 200_000;
/** Of a count in a sequence. A terminal cuts it at its size; xterm.js would repeat what is asked for so often. */
const mostRepeated = 1_000;
/** Characters that repeating makes, of the length of what is repeated. */
const mostRepeatedText = 64 * 1024;
const mostKeyboardFlags = 16;
const titleLength = 256;

/** The sequences whose count xterm.js carries out one by one. */
const counting = [
  ...['@', 'L', 'M', 'P', 'S', 'T', 'X', 'I', 'Z', 'b'].map((final) => ({ final })),
  ...['@', 'A'].map((final) => ({ intermediates: ' ', final })),
  ...['}', '~'].map((final) => ({ intermediates: "'", final })),
];

const encoder = new TextEncoder();

/** The screen of one terminal, as its output makes it. Any output: what would take without bound is left out. */
export class Emulator {
  readonly #terminal: Terminal;
  readonly #serializer = new SerializeAddon();
  readonly #unfinished = new Unfinished();
  #written = 0;
  readonly #further = { title: '', modifyOtherKeys: 0, keyboardFlags: [] as number[] };

  constructor(size: TerminalSize) {
    this.#terminal = new Terminal({
      ...bounded(size),
      scrollback: scrollbackOf(size),
      allowProposedApi: true,
      logLevel: 'off',
    });
    this.#terminal.loadAddon(this.#serializer);
    this.#boundCounts();
    this.#watch();
  }

  /** Resolves when it is on the screen. */
  write(bytes: Uint8Array): Promise<void> {
    this.#unfinished.see(bytes);
    this.#written += bytes.length;
    return new Promise((resolve) => this.#terminal.write(bytes, resolve));
  }

  resize(size: TerminalSize): void {
    const { cols, rows } = bounded(size);
    this.#terminal.options.scrollback = scrollbackOf(size);
    this.#terminal.resize(cols, rows);
  }

  /** @param maxBytes - the lines above the screen are left out where it would be more; `undefined` when that is not enough */
  restore(maxBytes: number): Restored | undefined {
    for (const scrollback of [mostScrollback, 0]) {
      const drawn = encoder.encode(restore(this.#terminal, this.#serializer, this.#further, scrollback));
      const screen = Buffer.concat([drawn, this.#unfinished.bytes]);
      if (screen.length <= maxBytes) return { screen, from: this.#written };
    }
    return undefined;
  }

  #boundCounts(): void {
    const { parser, buffer } = this.#terminal;
    for (const id of counting) {
      parser.registerCsiHandler(id, ([count = 0]) => {
        if (typeof count !== 'number' || count > mostRepeated) return true; // it is carried out by this: not at all
        if (id.final !== 'b') return false;
        const { active } = buffer;
        const text = active.getLine(active.baseY + active.cursorY)?.translateToString(true, active.cursorX - 1) ?? '';
        return text.length * count > mostRepeatedText;
      });
    }
  }

  #watch(): void {
    const { parser } = this.#terminal;
    const further = this.#further;
    this.#terminal.onTitleChange((title) => {
      further.title = title.slice(0, titleLength).replace(/[\0-\x1f\x7f-\x9f]/g, '');
    });
    parser.registerCsiHandler({ prefix: '>', final: 'm' }, ([resource = 0, value = 0]) => {
      if (resource === 4) further.modifyOtherKeys = Math.min(Number(value), 3);
      return false;
    });
    parser.registerCsiHandler({ prefix: '>', final: 'u' }, ([flags = 0]) => {
      further.keyboardFlags = [...further.keyboardFlags, Number(flags) & 0x1f].slice(-mostKeyboardFlags);
      return false;
    });
    parser.registerCsiHandler({ prefix: '<', final: 'u' }, ([count]) => {
      further.keyboardFlags = further.keyboardFlags.slice(0, -(Number(count) || 1));
      return false;
    });
    parser.registerEscHandler({ final: 'c' }, () => {
      Object.assign(further, { title: '', modifyOtherKeys: 0, keyboardFlags: [] });
      return false;
    });
  }
}

function bounded({ columns, rows }: TerminalSize): { cols: number; rows: number } {
  // xterm.js has no fewer columns than two.
  return { cols: Math.min(Math.max(columns, 2), mostColumns), rows: Math.min(rows, mostRows) };
}

function scrollbackOf(size: TerminalSize): number {
  return Math.min(mostScrollback, Math.floor(scrollbackCells / bounded(size).cols));
}
