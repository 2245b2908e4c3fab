const graphemes = new Intl.Segmenter();

/** Characters that take two cells: East Asian wide and fullwidth ones (Unicode's EastAsianWidth W and F), and emoji. */
const wide =
  /^(?:[\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|.\ufe0f)/u;
const noCells = /^[\p{M}\p{Cf}]+$/u;
const ascii = /^[\x20-\x7e]*$/;

function graphemeWidth(grapheme: string): number {
  if (noCells.test(grapheme)) return 0;
  return wide.test(grapheme) ? 2 : 1;
}

/** The cells of a terminal that a harmless text takes. */
export function cellWidth(text: string): number {
  if (ascii.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

/** The start of a text that fits; `…` says that something is missing. */
export function cut(text: string, cells: number): string {
  if (cellWidth(text) <= cells) return text;
  return `${head(text, cells - 1)}…`;
}

function head(text: string, cells: number): string {
  if (ascii.test(text)) return text.slice(0, Math.max(0, cells));
  let kept = '';
  let width = 0;
  for (const { segment } of graphemes.segment(text)) {
    width += graphemeWidth(segment);
    if (width > cells) break;
    kept += segment;
  }
  return kept;
}

/** A line broken at spaces into lines that fit; a word that fits nowhere is broken, too. */
export function wrap(text: string, cells: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (cellWidth(longer) <= cells) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    line = word;
    while (cellWidth(line) > cells) {
      // At least one character, so that a terminal narrower than a wide character ends it, too.
      const start = head(line, cells) || [...line].slice(0, 1).join('');
      lines.push(start);
      line = line.slice(start.length);
    }
  }
  lines.push(line);
  return lines;
}
