import type { SerializeAddon } from '@xterm/addon-serialize';
import type { IBuffer, IBufferCell, IBufferLine, Terminal } from '@xterm/headless';

/** How a cell looks. */
type Look = Pick<
  IBufferCell,
  | 'isBold'
  | 'isDim'
  | 'isItalic'
  | 'isUnderline'
  | 'isBlink'
  | 'isInverse'
  | 'isInvisible'
  | 'isStrikethrough'
  | 'isOverline'
  | 'isFgRGB'
  | 'isFgPalette'
  | 'getFgColor'
  | 'isBgRGB'
  | 'isBgPalette'
  | 'getBgColor'
> &
  Decoration;

/** Of a cell, and not shown by the interface of xterm.js, as `Core`. */
interface Decoration {
  readonly extended: {
    readonly urlId: number;
    /** Of the line under it: the colour, what that is in bits 24 and 25, the style. Where there is a link, `ext` has its style. */
    readonly _ext: number;
  };
}

type Cell = IBufferCell & Decoration;

interface SavedCursor {
  readonly ybase: number;
  readonly savedX: number;
  readonly savedY: number;
  readonly savedCurAttrData: Look;
}

/**
 * State of xterm.js that its interface does not show, as of the version that package-lock.json has; the serializer reads
 * such, too. The tests of this file fail when another version has something else.
 */
interface Core {
  readonly _bufferService: { readonly buffers: { readonly normal: SavedCursor } };
  readonly buffer: SavedCursor & {
    readonly x: number;
    readonly y: number;
    readonly scrollTop: number;
    readonly scrollBottom: number;
    readonly tabs: Readonly<Record<number, boolean | undefined>>;
  };
  readonly coreService: {
    readonly isCursorHidden: boolean;
    readonly decPrivateModes: {
      readonly cursorBlink: boolean | undefined;
      readonly cursorStyle: 'block' | 'underline' | 'bar' | undefined;
    };
  };
  readonly coreMouseService: { readonly activeEncoding: string };
  readonly _charsetService: {
    readonly glevel: number;
    readonly _charsets: readonly (Readonly<Record<string, string>> | undefined)[];
  };
  readonly _inputHandler: { readonly _curAttrData: Look };
  readonly _oscLinkService: { getLinkData(urlId: number): { id?: string; uri: string } | undefined };
}

/** What the emulator does not follow. */
export interface Further {
  title: string;
  /** Of `CSI > 4 ; … m`, which keys are sent with their modifiers. */
  modifyOtherKeys: number;
  /** Of `CSI > … u`, the newest last. */
  keyboardFlags: readonly number[];
  /** Colours that were given others, by what sets them: `4;1` is the second of the palette, `10` that of text. */
  colors: ReadonlyMap<string, string>;
}

const csi = '\x1b[';
const stringEnd = '\x1b\\';
const unlinked = `\x1b]8;;${stringEnd}`;
/** Characters of what draws them: without a bound, each cell could have a link of any length. */
const mostDecorations = 256 * 1024;
/** Of a link, and of its id: VTE takes no longer ones. */
const mostLink = 2_083;
const mouseModes = { none: '', x10: '?9h', vt200: '?1000h', drag: '?1002h', any: '?1003h' };
const mouseEncodings: Readonly<Record<string, string>> = { SGR: '?1006h', SGR_PIXELS: '?1016h' };
const cursorStyles = { block: 2, underline: 4, bar: 6 };

/** Makes any terminal usual and empty. What was on it before is not erased from its scrollback. */
const empty = [
  `${csi}?1049l${csi}!p${csi}r${csi}?6;9;1000;1002;1003;1004;1005;1006;1015;1016;2004;45;1l${csi}?7;25h`,
  `${csi}4l\x1b>\x1b(B\x0f${csi}>4m${csi}0 q${csi}0m${csi}H${csi}2J`,
].join('');

/**
 * What draws the screen of `terminal` on another one of that size, and brings it into the same state: then it shows the
 * same for all that follows.
 * @param scrollback - lines above the screen, at most
 */
export function restore(terminal: Terminal, serializer: SerializeAddon, further: Further, scrollback: number): string {
  const { _core: core } = terminal as unknown as { _core: Core }; // see there
  unwrapBroken(terminal.buffer.normal);
  unwrapBroken(terminal.buffer.alternate);
  const { normal, alternate, active } = terminal.buffer;
  const above = serializer.serialize({ scrollback, excludeModes: true, excludeAltBuffer: true });
  let content = `${above}${fill(terminal, normal)}${decorate(terminal, normal, core)}`;
  if (active === alternate) {
    const both = serializer.serialize({ scrollback, excludeModes: true });
    // Its cursor is saved there, and comes back with it.
    const left = `${savedCursor(normal, terminal.cols, core, core._bufferService.buffers.normal)}${csi}?1049h${csi}0m${csi}H`;
    content += `${left}${both.slice(above.length + `${csi}?1049h${csi}H`.length)}${fill(terminal, alternate)}${decorate(terminal, alternate, core)}`;
  }
  return `${empty}${content}${csi}0m${tabs(terminal, core)}${cursor(terminal, core)}${charsets(core)}${modes(terminal, core)}${keyboard(further)}${colors(further)}${title(further)}${link(core, core._inputHandler._curAttrData)}`;
}

/**
 * A line that goes on from one which was cleared since is one of its own. The serializer makes it go on by filling that,
 * and does not take away all of what it filled it with.
 */
function unwrapBroken(buffer: IBuffer): void {
  const isEmpty = (line: IBufferLine, column: number) => {
    const cell = line.getCell(column);
    return cell?.getChars() === '' && cell.getWidth() > 0;
  };
  for (let row = 1; row < buffer.length; row++) {
    const [before, line] = [buffer.getLine(row - 1), buffer.getLine(row)];
    if (!before || !line?.isWrapped) continue;
    const isWide = (line.getCell(0)?.getWidth() ?? 0) > 1; // it may have left the last column empty
    if (!isEmpty(before, before.length - (isWide ? 2 : 1))) continue;
    const { _line: own } = line as unknown as { _line: { isWrapped: boolean } }; // as `Core`
    own.isWrapped = false;
  }
}

/** Rows that are empty but for their background: the serializer leaves them out below the last text. */
function fill({ rows, cols }: Terminal, buffer: IBuffer): string {
  let filled = '';
  for (let row = 0; row < rows; row++) {
    const line = buffer.getLine(buffer.baseY + row);
    const cells = Array.from({ length: cols }, (_, column) => line?.getCell(column));
    if (!cells.some((cell) => cell && !cell.isBgDefault()) || cells.some((cell) => cell?.getChars())) continue;
    for (let start = 0, end = 1; start < cols; start = end++) {
      const style = lookOf(cells[start]);
      while (end < cols && lookOf(cells[end]) === style) end++;
      filled += `${to(row, start)}${style}${csi}${end - start}X`;
    }
  }
  return filled;
}

/** Cells with a link, or a line under them that is not the usual one: the serializer draws each with the usual one. */
function decorate({ rows, cols }: Terminal, buffer: IBuffer, core: Core): string {
  let drawn = '';
  for (let row = 0; row < rows; row++) {
    const line = buffer.getLine(buffer.baseY + row);
    let next = -1;
    let style = '';
    for (let column = 0; column < cols && drawn.length < mostDecorations; column++) {
      const cell = line?.getCell(column) as Cell | undefined; // as `Core`
      if (!cell?.getChars() || (cell.extended.urlId === 0 && isUsualLine(cell))) continue;
      const own = `${link(core, cell) || unlinked}${look(cell)}`;
      drawn += `${column === next ? '' : to(row, column)}${own === style ? '' : own}${cell.getChars()}`;
      next = column + cell.getWidth();
      style = own;
    }
  }
  return drawn && `${drawn}${unlinked}${csi}0m`;
}

function isUsualLine(of: Look): boolean {
  return lineStyle(of) <= 1 && lineColor(of) === undefined;
}

function lineStyle({ extended }: Look): number {
  return (extended._ext >> 26) & 7;
}

/** `undefined`: that of the text. White stands for that, too. */
function lineColor({ extended }: Look): string | undefined {
  const color = extended._ext & 0xff_ffff;
  switch ((extended._ext >> 24) & 3) {
    case 0:
      return undefined;
    case 3:
      return color === 0xff_ffff ? undefined : `58:2::${rgb(color).replaceAll(';', ':')}`;
    default:
      return `58:5:${color & 0xff}`;
  }
}

/** Empty where there is none. */
function link({ _oscLinkService }: Core, { extended: { urlId } }: Look): string {
  const { id, uri } = (urlId !== 0 && _oscLinkService.getLinkData(urlId)) || {};
  if (uri === undefined || uri.length > mostLink || (id?.length ?? 0) > mostLink) return '';
  // Without what would end the sequence.
  return `\x1b]8;${id ? `id=${id}` : ''};${uri}`.replace(/(?!^)[\0-\x1f\x7f-\x9f]/g, '') + stringEnd;
}

/** Those that are not where a terminal has them at first. */
function tabs({ cols }: Terminal, { buffer }: Core): string {
  const columns = Array.from({ length: cols }, (_, column) => column);
  if (columns.every((column) => Boolean(buffer.tabs[column]) === (column % 8 === 0))) return '';
  const set = columns.filter((column) => buffer.tabs[column]).map((column) => `${csi}${column + 1}G\x1bH`);
  return `${csi}3g${set.join('')}`;
}

/** The cursor that was saved, the lines that scroll, and the cursor itself. Setting the margins moves it. */
function cursor(terminal: Terminal, core: Core): string {
  const { buffer, _inputHandler } = core;
  const { scrollTop, scrollBottom, x, y } = buffer;
  const saved = `${savedCursor(terminal.buffer.active, terminal.cols, core, buffer)}\x1b7`;
  const isWhole = scrollTop === 0 && scrollBottom === terminal.rows - 1;
  const margins = isWhole ? '' : `${csi}${scrollTop + 1};${scrollBottom + 1}r`;
  const isOrigin = terminal.modes.originMode;
  const origin = isOrigin ? `${csi}?6h` : '';
  const current = look(_inputHandler._curAttrData);
  return `${saved}${margins}${origin}${place(terminal.buffer.active, terminal.cols, core, { y, row: isOrigin ? y - scrollTop : y, x })}${current}`;
}

function savedCursor(of: IBuffer, cols: number, core: Core, saved: SavedCursor): string {
  const { savedX, savedY, savedCurAttrData, ybase } = saved;
  const row = Math.max(0, savedY - ybase);
  return `${place(of, cols, core, { y: row, row, x: savedX })}${look(savedCurAttrData)}`;
}

/** @param at.row - as it is counted when this is written; `y` is that of the screen */
function place(of: IBuffer, cols: number, core: Core, { y, row, x }: { y: number; row: number; x: number }): string {
  if (x < cols) return to(row, x);
  // Behind the last column: there it is only after a character in that.
  const line = of.getLine(of.baseY + y);
  const last = line?.getCell(cols - 1);
  const cell = (last?.getWidth() === 0 ? line?.getCell(cols - 2) : last) as Cell | undefined; // as `Core`
  if (!cell) return to(row, cols - 1);
  return `${to(row, cols - Math.max(1, cell.getWidth()))}${link(core, cell)}${look(cell)}${cell.getChars() || ' '}${unlinked}`;
}

function to(row: number, column: number): string {
  return `${csi}${row + 1};${column + 1}H`;
}

function look(of: Look): string {
  const flags: (number | string)[] = [0];
  if (of.isBold()) flags.push(1);
  if (of.isDim()) flags.push(2);
  if (of.isItalic()) flags.push(3);
  const line = lineStyle(of);
  // A link has a line of its own.
  if (of.isUnderline() && (of.extended.urlId === 0 || line > 0)) flags.push(line > 1 ? `4:${line}` : 4);
  if (of.isBlink()) flags.push(5);
  if (of.isInverse()) flags.push(7);
  if (of.isInvisible()) flags.push(8);
  if (of.isStrikethrough()) flags.push(9);
  if (of.isOverline()) flags.push(53);
  if (of.isFgRGB()) flags.push(`38;2;${rgb(of.getFgColor())}`);
  else if (of.isFgPalette()) flags.push(palette(of.getFgColor(), 30));
  if (of.isBgRGB()) flags.push(`48;2;${rgb(of.getBgColor())}`);
  else if (of.isBgPalette()) flags.push(palette(of.getBgColor(), 40));
  const color = lineColor(of);
  if (color !== undefined) flags.push(color);
  return `${csi}${flags.join(';')}m`;
}

/** @param first - the number of black: 30 for what is written, 40 for what is behind it */
function palette(color: number, first: number): number | string {
  if (color < 8) return first + color;
  return color < 16 ? first + 60 + color - 8 : `${first + 8};5;${color}`;
}

function lookOf(cell: IBufferCell | undefined): string {
  return cell ? look(cell as Cell) : ''; // as `Core`
}

function rgb(color: number): string {
  return `${(color >> 16) & 0xff};${(color >> 8) & 0xff};${color & 0xff}`;
}

/** The one for drawing lines is the only one that programs still use. */
function charsets({ _charsetService: { glevel, _charsets } }: Core): string {
  const drawing = ['(', ')', '*', '+'].map((slot, index) => (_charsets[index]?.q === '─' ? `\x1b${slot}0` : ''));
  return `${drawing.join('')}${['', '\x0e', '\x1bn', '\x1bo'][glevel] ?? ''}`;
}

function modes(terminal: Terminal, { coreService, coreMouseService }: Core): string {
  const { modes: on } = terminal;
  const { isCursorHidden, decPrivateModes: own } = coreService;
  const style = own.cursorStyle && cursorStyles[own.cursorStyle] - (own.cursorBlink ? 1 : 0);
  return [
    on.insertMode && '4h',
    on.applicationCursorKeysMode && '?1h',
    !on.wraparoundMode && '?7l',
    on.reverseWraparoundMode && '?45h',
    on.sendFocusMode && '?1004h',
    on.bracketedPasteMode && '?2004h',
    mouseModes[on.mouseTrackingMode],
    mouseEncodings[coreMouseService.activeEncoding],
    style && `${style} q`,
    isCursorHidden && '?25l',
  ]
    .filter(Boolean)
    .map((mode) => `${csi}${mode}`)
    .concat(on.applicationKeypadMode ? ['\x1b='] : [])
    .join('');
}

function keyboard({ modifyOtherKeys, keyboardFlags }: Further): string {
  const modified = modifyOtherKeys > 0 ? `${csi}>4;${modifyOtherKeys}m` : '';
  return `${modified}${keyboardFlags.map((flags) => `${csi}>${flags}u`).join('')}`;
}

function colors({ colors: changed }: Further): string {
  return [...changed].map(([name, color]) => `\x1b]${name};${color}${stringEnd}`).join('');
}

function title({ title: text }: Further): string {
  return text === '' ? '' : `\x1b]2;${text}\x07`;
}
