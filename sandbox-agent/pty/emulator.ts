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
/** As `#123456`, `rgb:12/34/56` or a name. */
const colorName = /^[\w#:/.,%-]{1,64}$/;

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
  readonly #further = {
    title: '',
    modifyOtherKeys: 0,
    keyboardFlags: [] as number[],
    colors: new Map<string, string>(),
  };

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
      further.colors.clear();
      return false;
    });
    this.#watchColors();
  }

  /** https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, Operating System Commands */
  #watchColors(): void {
    const { parser } = this.#terminal;
    const { colors } = this.#further;
    const set = (name: string, color = '') => {
      if (colorName.test(color)) colors.set(name, color);
    };
    parser.registerOscHandler(4, (data) => {
      for (const [, index, color] of data.matchAll(/(\d{1,3});([^;]*)/g))
        if (Number(index) < 256) set(`4;${index}`, color);
      return false;
    });
    parser.registerOscHandler(104, (data) => {
      const names =
        data === ''
          ? [...colors.keys()].filter((name) => name.startsWith('4;'))
          : data.split(';').map((index) => `4;${index}`);
      for (const name of names) colors.delete(name);
      return false;
    });
    // Of text, of what is behind it, of the cursor. More than one in a sequence are those that follow.
    for (const first of [10, 11, 12]) {
      parser.registerOscHandler(first, (data) => {
        for (const [further, color] of data.split(';').entries())
          if (first + further <= 12) set(`${first + further}`, color);
        return false;
      });
      parser.registerOscHandler(100 + first, () => {
        colors.delete(`${first}`);
        return false;
      });
    }
  }
}

function bounded({ columns, rows }: TerminalSize): { cols: number; rows: number } {
  // xterm.js has no fewer columns than two.
  return { cols: Math.min(Math.max(columns, 2), mostColumns), rows: Math.min(rows, mostRows) };
}

function scrollbackOf(size: TerminalSize): number {
  return Math.min(mostScrollback, Math.floor(scrollbackCells / bounded(size).cols));
}
