import type { Span } from './row.ts';
import type { Style } from './style.ts';

/** A unified diff, as `git diff` and the tool `edit` write it. */
export function isDiff(text: string): boolean {
  return /^(?:diff --git .*|--- .*)$/m.test(text) && /^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@/m.test(text);
}

/** One harmless line of a diff in the colours that `git diff` gives it. */
export function diffLine(line: string, style: Style): Span {
  if (/^(?:diff |index |--- |\+\+\+ )/.test(line)) return [line, style.bold];
  if (line.startsWith('@@')) return [line, style.cyan];
  if (line.startsWith('+')) return [line, style.green];
  if (line.startsWith('-')) return [line, style.red];
  return [line, style.dim];
}
