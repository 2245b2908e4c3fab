import * as v from 'valibot';
import { type LoopTool, textResult } from '../model/tool.ts';
import { utf8Text } from '../utf8-text.ts';
import { checkedTool } from './arguments.ts';
import { nearestLines } from './nearest-lines.ts';
import type { ToolEnvironment } from './tool-environment.ts';
import { type Replacement, unifiedDiff } from './unified-diff.ts';

export function editTool({ env, shared }: ToolEnvironment): LoopTool {
  return checkedTool({
    name: 'edit',
    description:
      'Replaces text in a file. oldText must be in the file exactly as given, white space and indentation included, and ' +
      'only once, unless replaceAll is true: give enough lines around the change.',
    order: 'sequential',
    input: v.strictObject({
      path: v.pipe(
        v.string(),
        v.minLength(1),
        v.description('The file, absolute or relative to the working directory'),
      ),
      oldText: v.pipe(v.string(), v.description('The text to replace')),
      newText: v.pipe(v.string(), v.description('The text to put there')),
      replaceAll: v.optional(v.pipe(v.boolean(), v.description('Replace every occurrence. Default: false'))),
    }),
    run({ path, oldText, newText, replaceAll = false }) {
      if (oldText === '') throw new Error('oldText is empty; give the text to replace, or use write for a new file.');
      if (oldText === newText) throw new Error('oldText and newText are the same; there is nothing to change.');
      return shared.locks.hold(env.resolvePath(path), async () => {
        const before = decoded(await env.readFileBuffer(path), path);
        const replacements = findAll(before, oldText, newText);
        if (replacements.length === 0) throw notFound(path, before, oldText);
        if (replacements.length > 1 && !replaceAll) throw ambiguous(path, before, replacements);
        const after = replaced(before, replacements);
        await env.writeFile(path, after);
        const places = replacements.length === 1 ? '1 place' : `${replacements.length} places`;
        const details = { diff: unifiedDiff(path, before, replacements) };
        return textResult(`Edited ${path} in ${places}.`, { details });
      });
    },
  });
}

/** The text of a file, all of it: what is decoded is written back. */
function decoded(bytes: Uint8Array, path: string): string {
  const text = utf8Text(bytes);
  if (text === undefined) throw new Error(`${path} is not UTF-8 text (${bytes.length} bytes); edit can't change it.`);
  return text;
}

/** Where `oldText` stands, not overlapping, and what comes there. LF in it also stands for a CRLF of the file. */
function findAll(text: string, oldText: string, newText: string): Replacement[] {
  const crlfFile = text.includes('\r\n');
  const literal = oldText.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  const pattern = new RegExp(crlfFile ? literal.replaceAll('\n', '\\r?\\n') : literal, 'g');
  return Array.from(text.matchAll(pattern), (match) => {
    const start = match.index;
    const end = start + match[0].length;
    const crlf = crlfFile && endsLinesWithCrlf(text, start, match[0]);
    return { start, end, text: crlf ? newText.replace(/\r?\n/g, '\r\n') : newText };
  });
}

/** How lines end where a match stands: as in the match, else as in the line before it or, in the first, after it. */
function endsLinesWithCrlf(text: string, start: number, match: string): boolean {
  if (match.includes('\n')) return match.includes('\r\n');
  const before = text.lastIndexOf('\n', start - 1);
  const newline = before === -1 || start === 0 ? text.indexOf('\n', start) : before;
  return text[newline - 1] === '\r';
}

function replaced(text: string, replacements: Replacement[]): string {
  let result = '';
  let position = 0;
  for (const { start, end, text: added } of replacements) {
    result += text.slice(position, start) + added;
    position = end;
  }
  return result + text.slice(position);
}

function notFound(path: string, text: string, oldText: string): Error {
  const nearest = nearestLines(text, oldText);
  const hint =
    nearest === undefined ? '' : ` The nearest lines, from line ${nearest.line} on, are:\n${nearest.lines.join('\n')}`;
  return new Error(
    `oldText is not in ${path}. It must be the same in every character: check white space and indentation.${hint}`,
  );
}

function ambiguous(path: string, text: string, replacements: Replacement[]): Error {
  const shown = replacements.slice(0, 20).map(({ start }) => text.slice(0, start).split('\n').length);
  const more = replacements.length > shown.length ? ', …' : '';
  return new Error(
    `oldText is in ${path} ${replacements.length} times (lines ${shown.join(', ')}${more}). Give more lines around the ` +
      'place that is meant, or set replaceAll.',
  );
}
