import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Page } from './page.ts';

/** Who is let in to a server of previews. */
export interface Access {
  /** That each request has to bring. Left out: none. */
  token?: string | undefined;
  /** The name of this machine, besides `localhost`: as it is, and as the end of longer ones. */
  name?: string | undefined;
  /** Whether pages of one host may ask for what another one has. Both with their ports. */
  isOwn: (host: string, other: string) => boolean;
}

/** A request that was let in. */
export interface Asked {
  /** Without its port; in lower case. */
  name: string;
  /** As the browser has it. */
  host: string;
  /** Path and query, without the token. */
  target: string;
}

/** In a URL; a browser has it replaced with a cookie at once. */
export const tokenParameter = 'berth_token';
/** For programs. */
export const tokenHeader = 'x-berth-token';

/** Anything that needs no encoding, in a URL or a header; what is shorter can be guessed. */
export const tokenPattern = /^[A-Za-z0-9._~-]{16,256}$/;
export const tokenRule = 'is not 16 to 256 of A-Z, a-z, 0-9, ., _, ~, -';

/** Of 192 bits. */
export function newToken(): string {
  return randomBytes(24).toString('base64url');
}

/** Cookies do not know of ports: each server of previews has a name of its own for its cookie. */
const cookieName = /^berth_\d+$/;

/** @returns the request, or what to answer in place of what it asks for */
export function admit(request: IncomingMessage, access: Access): Asked | Page {
  const { host = '', 'sec-fetch-mode': mode } = request.headers;
  const { name, port } = splitHost(host);
  if (!isHere(name, access)) {
    return {
      status: 421,
      title: 'Another host was asked for',
      text: `This server answers for localhost and names below it, for addresses${access.name ? ` and for ${access.name}` : ''}.`,
    };
  }
  const { url = '', method } = request;
  if (!url.startsWith('/')) return { status: 400, title: 'Bad request', text: 'A request names a path.' };
  const { target, token } = withoutToken(url);
  const asked = { name, host: host.toLowerCase(), target };
  const isLook = method === 'GET' || method === 'HEAD';
  if (access.token !== undefined) {
    const cookie = { name: `berth_${port}`, value: cookieValue(access.token, asked.host) };
    const isShown = isSame(token, access.token) || isSame(request.headers[tokenHeader], access.token);
    if (isShown && token !== undefined && isLook && wantsHtml(request)) {
      return {
        status: 303,
        title: 'See the page without the token',
        text: target,
        headers: {
          // Of two slashes, or a backslash, a browser would make another host.
          location: target.replace(/^[/\\]+/, '/'),
          'set-cookie': `${cookie.name}=${cookie.value}; Path=/; HttpOnly; SameSite=Lax`,
        },
      };
    }
    // Who has the token may ask from wherever.
    if (isShown) return asked;
    if (!cookiesOf(request, cookie.name).some((value) => isSame(value, cookie.value))) {
      return {
        status: 401,
        title: 'A token is needed',
        text: `Open the URL with its token, ?${tokenParameter}=…, or send the token in the header X-Berth-Token.`,
      };
    }
  }
  // What a browser opens by itself, as a link or a frame, the other site can't read.
  if (!(mode === 'navigate' && isLook) && isForeign(request, asked.host, access)) {
    return {
      status: 403,
      title: 'Another site asks',
      text: 'Pages of other sites may not reach the servers of sandboxes.',
    };
  }
  return asked;
}

/** The cookies of a request that are none of ours, as its header. */
export function ownCookies(header: string): string {
  return header
    .split(';')
    .filter((pair) => !isTokenCookie(pair))
    .join(';')
    .trim();
}

/** @param pair - `NAME=VALUE`, whatever follows */
export function isTokenCookie(pair: string): boolean {
  return cookieName.test(pair.split('=')[0]?.trim() ?? '');
}

export function wantsHtml({ headers }: IncomingMessage): boolean {
  return /\btext\/html\b/i.test(headers.accept ?? '');
}

function splitHost(host: string): { name: string; port: number } {
  const [, name = '', port] = /^(\[[0-9a-f:.]+\]|[^:[\]/@\s]+)(?::(\d{1,5}))?$/.exec(host.toLowerCase()) ?? [];
  return { name, port: Number(port ?? 80) };
}

/**
 * A site that has its own name resolve to an address of this machine makes the browser ask us by that name (DNS
 * rebinding). An address can't be a name of somebody else, and browsers resolve those below `localhost` themselves.
 */
function isHere(name: string, { name: own }: Access): boolean {
  const names = ['localhost', ...(own ? [own] : [])];
  return (isAddress(name) && !unsaid.test(name)) || names.some((one) => name === one || name.endsWith(`.${one}`));
}

/**
 * Addresses that lead to this machine, too, and are asked for without `Sec-Fetch-Site`, as browsers don't take them for its
 * loopback: of what another site's page asks there, an image or a script, nothing would tell it from a program.
 */
const unsaid = /^(0\.0\.0\.0$|\[::\]$|\[::ffff:)/;

/** @param name - of a host, as a URL has it */
export function isAddress(name: string): boolean {
  return isIP(name.replace(/^\[|\]$/g, '')) !== 0;
}

/** Whether the page of another site asks: what it says of itself it can't change. */
function isForeign({ headers }: IncomingMessage, host: string, { isOwn }: Access): boolean {
  const site = headers['sec-fetch-site'];
  if (site === 'same-origin' || site === 'none') return false;
  const origin = headers.origin ?? headers.referer;
  // No browser, or one too old to say.
  if (site === undefined && origin === undefined) return false;
  const from = origin && URL.canParse(origin) ? new URL(origin).host : undefined;
  return from === undefined || (from !== host && !isOwn(from, host));
}

function withoutToken(url: string): { target: string; token: string | undefined } {
  const [path = '', ...query] = url.split('?');
  const pairs = query.join('?').split('&');
  const isToken = (pair: string) => pair.startsWith(`${tokenParameter}=`);
  const token = pairs.find(isToken)?.slice(tokenParameter.length + 1);
  if (token === undefined) return { target: url, token };
  const rest = pairs.filter((pair) => !isToken(pair)).join('&');
  return { target: rest === '' ? path : `${path}?${rest}`, token };
}

/** Who gets to see it, as another server on the same host, has nothing for any other host or port. */
function cookieValue(token: string, host: string): string {
  return createHmac('sha256', token).update(host).digest('base64url');
}

/** All of that name: a page of another sandbox may have set one for a domain that both are in. */
function cookiesOf({ headers }: IncomingMessage, name: string): string[] {
  const pairs = (headers.cookie ?? '').split(';').map((pair) => pair.trim());
  return pairs.filter((pair) => pair.startsWith(`${name}=`)).map((pair) => pair.slice(name.length + 1));
}

/** In a time that says nothing of where they differ. */
function isSame(given: string | string[] | undefined, expected: string): boolean {
  if (typeof given !== 'string') return false;
  const [one, other] = [given, expected].map((text) => createHash('sha256').update(text).digest());
  return one !== undefined && other !== undefined && timingSafeEqual(one, other);
}
