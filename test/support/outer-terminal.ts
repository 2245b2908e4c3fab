import { Terminal } from '@xterm/headless';

/** A terminal as a person has one, of xterm.js: what it shows and how it is set, to compare. */
export class OuterTerminal {
  readonly terminal: Terminal;

  constructor(cols: number, rows: number) {
    this.terminal = new Terminal({ cols, rows, scrollback: 1_000, allowProposedApi: true, logLevel: 'off' });
  }

  write(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => this.terminal.write(bytes, resolve));
  }

  /** Lines as a person reads them, those above the screen too. */
  get lines(): string[] {
    const { active } = this.terminal.buffer;
    return Array.from({ length: active.length }, (_, row) => active.getLine(row)?.translateToString(true) ?? '');
  }

  /** All that can be seen or makes a difference for what is written next. */
  get state() {
    const { buffer, modes } = this.terminal;
    const cells = (of: typeof buffer.active) =>
      Array.from({ length: of.length }, (_, row) => {
        const line = of.getLine(row);
        return Array.from({ length: line?.length ?? 0 }, (_, column) => {
          const cell = line?.getCell(column);
          if (!cell) return '';
          const isBlank = cell.getChars() === '' || cell.getChars() === ' ';
          const back = `${cell.isBgPalette()}/${cell.getBgColor()}/${cell.isInverse()}`;
          const front = isBlank
            ? ''
            : `${cell.isFgPalette()}/${cell.getFgColor()}/${cell.isBold()}/${cell.isUnderline()}`;
          return `${cell.getChars() || (cell.getWidth() === 0 ? '' : ' ')}|${back}|${front}`;
        }).join('\n');
      });
    const at = (of: typeof buffer.active) => ({ x: of.cursorX, y: of.cursorY, base: of.baseY });
    // Of a version that package-lock.json has: what its interface does not show.
    const { _core: core } = this.terminal as unknown as {
      _core: {
        buffer: { scrollTop: number; scrollBottom: number; savedX: number; tabs: object };
        coreService: { isCursorHidden: boolean; decPrivateModes: object };
        coreMouseService: { activeEncoding: string };
        _charsetService: { glevel: number };
      };
    };
    return {
      type: buffer.active.type,
      active: cells(buffer.active),
      at: at(buffer.active),
      normal: cells(buffer.normal),
      modes,
      margins: [core.buffer.scrollTop, core.buffer.scrollBottom],
      savedX: core.buffer.savedX,
      tabs: Object.keys(core.buffer.tabs).filter((column) => Number(column) < this.terminal.cols),
      isCursorHidden: core.coreService.isCursorHidden,
      own: core.coreService.decPrivateModes,
      mouse: core.coreMouseService.activeEncoding,
      level: core._charsetService.glevel,
    };
  }
}
