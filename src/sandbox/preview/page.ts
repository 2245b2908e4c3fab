import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { rawAnswer } from '../network/raw-answer.ts';
import { wantsHtml } from './access.ts';

/** What a server of previews says itself: HTML for a browser, else text. */
export interface Page {
  status: number;
  title: string;
  /** A paragraph. */
  text: string;
  lists?: readonly { title: string; links: readonly { label: string; url?: string | undefined }[] }[];
  /** A browser is to look again in two seconds: what is missing may come. */
  isForNow?: boolean;
  headers?: Record<string, string>;
}

const style = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 4rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin: 1.5rem 0 0 } ul { padding-left: 1.2rem; margin: .3rem 0 }`;

export function sendPage(request: IncomingMessage, response: ServerResponse, page: Page): void {
  const isHtml = wantsHtml(request);
  response.writeHead(page.status, {
    'content-type': `text/${isHtml ? 'html' : 'plain'}; charset=utf-8`,
    'cache-control': 'no-store',
    'content-security-policy': `default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'`,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    ...page.headers,
  });
  response.end(isHtml ? htmlOf(page) : textOf(page));
}

/** As the whole and last answer on a connection that no server of Node answers on. */
export function sendRawPage(socket: Duplex, page: Page): void {
  socket.end(rawAnswer({ status: page.status, reason: STATUS_CODES[page.status] ?? 'Error', body: textOf(page) }));
  socket.resume(); // behind what nobody reads its end would not be noticed
}

function htmlOf({ title, text, lists = [], isForNow }: Page): string {
  const item = ({ label, url }: { label: string; url?: string | undefined }) =>
    `<li>${url === undefined ? escaped(label) : `<a href="${escaped(url)}">${escaped(label)}</a>`}</li>`;
  return [
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    isForNow ? '<meta http-equiv="refresh" content="2">' : '',
    `<title>${escaped(title)}</title><style>${style}</style>`,
    `<h1>${escaped(title)}</h1><p>${escaped(text)}</p>`,
    ...lists.map((list) => `<h2>${escaped(list.title)}</h2><ul>${list.links.map(item).join('')}</ul>`),
    '</html>\n',
  ].join('');
}

function textOf({ title, text, lists = [] }: Page): string {
  const lines = lists.flatMap((list) => [`${list.title}:`, ...list.links.map(({ label, url }) => `  ${url ?? label}`)]);
  return [`berth: ${title.charAt(0).toLowerCase()}${title.slice(1)}. ${text}`, ...lines, ''].join('\n');
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
