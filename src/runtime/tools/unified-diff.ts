/** `text` comes where the file had what stands from `start` to `end`. */
export interface Replacement {
  start: number;
  end: number;
  text: string;
}

/** Lines `oldStart` to `oldEnd` (not included, both from 0) of the old file become `added`. */
interface Block {
  oldStart: number;
  oldEnd: number;
  added: string[];
}

const CONTEXT = 3;

/** The unified diff of an edit whose places are known, in order and apart from each other. */
export function unifiedDiff(path: string, before: string, replacements: Replacement[]): string {
  const lines = splitLines(before);
  const hunks = hunksOf(blocksOf(before, lines, replacements));
  let shift = 0; // how many lines the new file is ahead
  const texts = hunks.map((blocks) => {
    const start = Math.max(0, (blocks[0]?.oldStart ?? 0) - CONTEXT);
    const end = Math.min(lines.length, (blocks.at(-1)?.oldEnd ?? 0) + CONTEXT);
    const body: string[] = [];
    let position = start;
    for (const { oldStart, oldEnd, added } of blocks) {
      body.push(...lines.slice(position, oldStart).map((line) => marked(' ', line)));
      body.push(...lines.slice(oldStart, oldEnd).map((line) => marked('-', line)));
      body.push(...added.map((line) => marked('+', line)));
      position = oldEnd;
    }
    body.push(...lines.slice(position, end).map((line) => marked(' ', line)));
    const grown = blocks.reduce((sum, { oldStart, oldEnd, added }) => sum + added.length - (oldEnd - oldStart), 0);
    const head = `@@ -${range(start, end - start)} +${range(start + shift, end - start + grown)} @@\n`;
    shift += grown;
    return head + body.join('');
  });
  return `--- a/${path}\n+++ b/${path}\n${texts.join('')}`;
}

/** Whole lines that change, each block as small as it can be. */
function blocksOf(before: string, lines: string[], replacements: Replacement[]): Block[] {
  const starts: number[] = [];
  let offset = 0;
  for (const line of lines) {
    starts.push(offset);
    offset += line.length;
  }
  const startOf = (line: number) => starts[line] ?? before.length;
  const blocks: Block[] = [];
  let line = 0;
  for (let i = 0; i < replacements.length; ) {
    const first = replacements[i];
    if (!first) break;
    while (line + 1 < lines.length && startOf(line + 1) <= first.start) line++;
    const oldStart = line;
    let text = before.slice(startOf(oldStart), first.start);
    let position = first.start;
    let oldEnd = oldStart;
    // All replacements whose lines touch are one block: its text is made of what they leave and what they add.
    for (let next: Replacement | undefined = first; next; next = replacements[i]) {
      if (next !== first && next.start >= startOf(oldEnd)) break;
      text += before.slice(position, next.start) + next.text;
      position = next.end;
      while (oldEnd < lines.length && startOf(oldEnd) <= position) oldEnd++;
      i++;
    }
    text += before.slice(position, startOf(oldEnd));
    blocks.push(trimmed(lines, { oldStart, oldEnd, added: splitLines(text) }));
  }
  return blocks;
}

/** Without the lines at both ends that stay as they are. */
function trimmed(lines: string[], { oldStart, oldEnd, added }: Block): Block {
  let [start, end, from, to] = [oldStart, oldEnd, 0, added.length];
  while (start < end && from < to && lines[start] === added[from]) {
    start++;
    from++;
  }
  while (end > start && to > from && lines[end - 1] === added[to - 1]) {
    end--;
    to--;
  }
  return { oldStart: start, oldEnd: end, added: added.slice(from, to) };
}

/** Blocks whose context would touch are shown together. */
function hunksOf(blocks: Block[]): Block[][] {
  const hunks: Block[][] = [];
  for (const block of blocks) {
    const hunk = hunks.at(-1);
    const last = hunk?.at(-1);
    if (hunk && last && block.oldStart - last.oldEnd <= 2 * CONTEXT) hunk.push(block);
    else hunks.push([block]);
  }
  return hunks;
}

/** Lines with their ends. */
function splitLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function marked(mark: string, line: string): string {
  return line.endsWith('\n') ? mark + line : `${mark}${line}\n\\ No newline at end of file\n`;
}

/** An empty range names the line before it: POSIX, diff -u. */
function range(start: number, length: number): string {
  return length === 0 ? `${start},0` : `${start + 1},${length}`;
}
