import { Terminal } from '@xterm/headless';

interface Links {
  getLinkData(urlId: number): { id?: string; uri: string } | undefined;
}

interface DecoratedCell {
  getChars(): string;
  extended: { _ext: number; urlId: number };
}

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

  /** Of each character on the screen that has one: the line under it, by its style and colour, and the link. */
  get decorations() {
    const { active } = this.terminal.buffer;
    // Of a version that package-lock.json has, as below.
    const { _oscLinkService: links } = (this.terminal as unknown as { _core: { _oscLinkService: Links } })._core;
    return Array.from({ length: this.terminal.rows }, (_, row) => {
      const line = active.getLine(active.baseY + row);
      return Array.from({ length: line?.length ?? 0 }, (_, column) => {
        const cell = line?.getCell(column) as unknown as DecoratedCell | undefined;
        if (!cell?.getChars()) return '';
        const { _ext: bits, urlId } = cell.extended;
        if (cell.getChars() === ' ' && bits === 0 && urlId === 0) return ''; // looks as if there were none
        const link = urlId === 0 ? undefined : links.getLinkData(urlId);
        // What sets the usual colour makes it white, and one of the palette keeps more of the one before than counts.
        const [rgb, index] = [bits & 0xff_ffff, `palette ${bits & 0xff}`];
        const color = [0, index, index, rgb === 0xff_ffff ? 0 : rgb][(bits >> 24) & 3];
        return [cell.getChars(), (bits >> 26) & 7, color, link?.uri, link?.id].join('|');
      });
    });
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
