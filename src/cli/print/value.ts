import { diffLine, isDiff } from './diff.ts';
import { harmlessLine, harmlessLines } from './harmless.ts';
import { row, type Span } from './row.ts';
import type { Style } from './style.ts';
import { cellWidth, wrap } from './width.ts';

/** The result of a run for people: one line a field, longer texts below their name, diffs in colour. */
export function valueLines(value: unknown, style: Style, columns?: number): string[] {
  if (typeof value === 'string') return blockLines(value, '', style, columns);
  if (!isRecord(value)) return [row([[compact(value)]], [], columns)];
  const fields = Object.entries(value);
  const widest = Math.max(0, ...fields.map(([name]) => cellWidth(harmlessLine(name))));
  return fields.flatMap(([name, field]) => {
    const label = harmlessLine(name);
    if (typeof field === 'string' && (field.includes('\n') || field.length > 100)) {
      return [style.bold(label), ...blockLines(field, '  ', style, columns)];
    }
    const text = typeof field === 'string' ? harmlessLine(field) : isRecord(field) ? flat(field) : compact(field);
    return [row([[label, style.bold], [' '.repeat(widest - cellWidth(label) + 2)], [text]], [], columns)];
  });
}

function blockLines(text: string, indent: string, style: Style, columns: number | undefined): string[] {
  const diff = isDiff(text);
  return harmlessLines(text).flatMap((line) => {
    if (diff) return [row([[indent], diffLine(line, style)], [], columns)];
    const wrapped = columns === undefined ? [line] : wrap(line, columns - indent.length);
    return wrapped.map((part) => row([[indent], [part]], [], columns));
  });
}

/** `{ passed: 8, failed: 0 }` reads as `8 passed, 0 failed` where all fields are numbers. */
function flat(value: Record<string, unknown>): string {
  const fields = Object.entries(value);
  if (fields.length === 0 || !fields.every(([, field]) => typeof field === 'number')) return compact(value);
  return fields.map(([name, field]) => `${field} ${harmlessLine(name)}`).join(', ');
}

/** A value in one line; cut where nobody would read on. */
export function compact(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return harmlessLine(text.length > 1_000 ? `${text.slice(0, 1_000)}…` : text);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The words after a tool's name: what it was asked to do. */
export function argumentSpans(toolName: string, args: unknown): Span[] {
  const given = isRecord(args) ? args : {};
  const text = (name: string) => (typeof given[name] === 'string' ? harmlessLine(given[name].trim()) : undefined);
  switch (toolName) {
    case 'bash': {
      const [first = '', ...more] = (typeof given.command === 'string' ? given.command : '').trim().split('\n');
      return [[harmlessLine(first) + (more.length > 0 ? ' …' : '')]];
    }
    case 'read':
    case 'write':
    case 'edit':
      return [[text('path') ?? compact(args)]];
    case 'grep':
    case 'glob': {
      const path = text('path');
      return [[`${text('pattern') ?? compact(args)}${path === undefined ? '' : ` in ${path}`}`]];
    }
    default:
      return isRecord(args) && Object.keys(args).length === 0 ? [] : [[compact(args)]];
  }
}
