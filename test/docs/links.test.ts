import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Page, pages, prose, root } from './markdown.ts';

/** The names that a page's headings have in links, as GitHub makes them. */
function anchors(page: Page): Set<string> {
  const headings = Array.from(prose(page).matchAll(/^#+ (.+)$/gm), ([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** Links to places that are not there. */
function brokenLinks(page: Page): string[] {
  const links = [...prose(page).matchAll(/\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"/g)];
  return links.flatMap(([, markdown, html]) => {
    const link = markdown ?? html ?? '';
    if (/^[a-z]+:/.test(link)) return [];
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? page.path : normalize(join(dirname(page.path), path));
    if (!existsSync(`${root}${target}`)) return [`${page.path}: ${link}`];
    if (anchor === undefined) return [];
    const text = readFileSync(`${root}${target}`, 'utf8');
    return anchors({ path: target, text }).has(anchor) ? [] : [`${page.path}: ${link}`];
  });
}

/** Files and tests that are named and not there. A test is named as `FILE` “NAME”. */
function missingFiles(page: Page): string[] {
  const named = /`((?:src|sandbox-agent|scripts|images|test|bench|examples|docs)\/[\w./-]+)`(?: “([^”]+)”)?/g;
  return [...prose(page).matchAll(named)].flatMap(([, path = '', name]) => {
    if (!existsSync(`${root}${path}`)) return [`${page.path}: ${path}`];
    if (name === undefined || readFileSync(`${root}${path}`, 'utf8').includes(name)) return [];
    return [`${page.path}: ${path} “${name}”`];
  });
}

describe('the documentation', () => {
  test('links to what is there', () => {
    expect(pages.flatMap(brokenLinks)).toEqual([]);
  });

  test('names files, folders and tests that are there', () => {
    expect(pages.flatMap(missingFiles)).toEqual([]);
  });

  test('has every page in its index', () => {
    const index = pages.find(({ path }) => path === 'docs/README.md')?.text ?? '';
    const guides = pages.filter(({ path }) => path.startsWith('docs/') && path !== 'docs/README.md');
    expect(
      guides.map(({ path }) => path.slice('docs/'.length)).filter((name) => !index.includes(`](${name})`)),
    ).toEqual([]);
  });

  test('would be told of broken links and missing files', () => {
    const page = {
      path: 'docs/page.md',
      text: '[a](none.md) [b](../README.md#none) [c](../README.md) `src/none.ts` `src/index.ts` “None such”',
    };
    expect(brokenLinks(page)).toEqual(['docs/page.md: none.md', 'docs/page.md: ../README.md#none']);
    expect(missingFiles(page)).toEqual(['docs/page.md: src/none.ts', 'docs/page.md: src/index.ts “None such”']);
  });
});
