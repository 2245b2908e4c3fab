import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A page for people; `path` is relative to the root of the repository. */
export interface Page {
  path: string;
  text: string;
}

export const pages: Page[] = ['.', 'docs']
  .flatMap((folder) => readdirSync(`${root}${folder}`).map((name) => (folder === '.' ? name : `${folder}/${name}`)))
  .filter((path) => path.endsWith('.md'))
  .map((path) => ({ path, text: readFileSync(`${root}${path}`, 'utf8') }));

export interface CodeBlock {
  /** Of the page. */
  path: string;
  /** The line of its fence, from 1. */
  line: number;
  language: string;
  /** What stands behind the language: `run` for a program whose output is the next block. */
  mark: string;
  code: string;
}

const fence = /^```(\w*) ?(\w*)\n(.*?)^```$/gms;

/** The fenced blocks of a page, in their order. */
export function codeBlocks({ path, text }: Page): CodeBlock[] {
  return Array.from(text.matchAll(fence), ({ index, 1: language = '', 2: mark = '', 3: code = '' }) => ({
    path,
    line: text.slice(0, index).split('\n').length,
    language,
    mark,
    code,
  }));
}

/** What is left of a page without its fenced blocks. */
export function prose({ text }: Page): string {
  return text.replace(fence, '');
}
