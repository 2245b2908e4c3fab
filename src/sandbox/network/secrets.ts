import { createHash, type KeyObject, sign } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import * as v from 'valibot';
import { limits } from '../../protocol/limits.ts';
import type { CompiledRule } from './policy.ts';

/**
 * What programs need to authenticate with and never get: in the sandbox the variable `name` has a placeholder, and the host
 * puts the value in its place in requests to `hosts`.
 */
export interface Secret {
  /** Of the variable, as `GITHUB_TOKEN` */
  name: string;
  /** 8 to 8,192 visible characters of ASCII. */
  value: string;
  /** As in rules: `api.github.com`, `*.github.com`, `git.example.com:8443`. Each has to be allowed by a rule too */
  hosts: readonly string[];
  /**
   * The header that the placeholder is looked for in; `true`: any. In `authorization` also within Basic credentials.
   * Default: any, where neither `query` nor `basic` is given
   */
  header?: string | boolean | undefined;
  /** The parameter of the URL that the placeholder is looked for in; `true`: any. Default: none */
  query?: string | boolean | undefined;
  /** Whether it is looked for within Basic credentials. Default: as `header` says */
  basic?: boolean | undefined;
}

export interface CompiledSecret {
  name: string;
  value: string;
  hosts: readonly CompiledRule[];
  header: string | boolean;
  query: string | boolean;
  basic: boolean;
}

const minCharacters = 8;
const maxCharacters = 8_192;

const where = v.union([v.boolean(), v.pipe(v.string(), v.minLength(1), v.maxLength(256))]);

/** @param host - the schema of a rule that is a text */
export function secretOption(host: v.GenericSchema<string, CompiledRule>) {
  return v.pipe(
    v.strictObject({
      name: v.pipe(
        v.string(),
        v.regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is no name of a variable'),
        v.maxLength(limits.name),
      ),
      value: v.pipe(
        v.string(),
        v.check((value) => value.length >= minCharacters, `has fewer than ${minCharacters} characters`),
        v.check((value) => value.length <= maxCharacters, `has more than ${maxCharacters} characters`),
        v.check(
          (value) => /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value),
          'has characters that no header can have',
        ),
      ),
      hosts: v.pipe(v.array(host), v.minLength(1), v.maxLength(limits.networkNames)),
      header: v.optional(where),
      query: v.optional(where),
      basic: v.optional(v.boolean()),
    }),
    v.transform(({ name, value, hosts, query = false, ...given }): CompiledSecret => {
      const { header = query === false && given.basic === undefined } = given;
      const inHeader = typeof header === 'string' ? header.toLowerCase() : header;
      const { basic = inHeader === true || inHeader === 'authorization' } = given;
      return { name, value, hosts, header: inHeader, query, basic };
    }),
  );
}

/** The same in each process of a host, so that a program goes on with the one that it has. */
export function placeholder(privateKey: KeyObject, sandboxId: string, name: string): string {
  const signature = sign(null, Buffer.from(`the placeholder of ${name} in ${sandboxId}`), privateKey);
  return `berth-${createHash('sha256').update(signature).digest('hex').slice(0, 40)}`;
}

/** The secrets of one sandbox, with what it has in their place. */
export class Secrets {
  readonly #all: readonly (CompiledSecret & { placeholder: string; forms: readonly Buffer[] })[];

  /** @param placeholderOf - a name's: nothing that could stand anywhere else */
  constructor(secrets: readonly CompiledSecret[], placeholderOf: (name: string) => string) {
    this.#all = secrets.map((secret) => ({
      ...secret,
      placeholder: placeholderOf(secret.name),
      forms: formsOf(secret.value),
    }));
  }

  /** The variables of commands. */
  get env(): [name: string, placeholder: string][] {
    return this.#all.map(({ name, placeholder }) => [name, placeholder]);
  }

  /** Whether requests to there are looked into. */
  isBoundTo(host: string, port: number): boolean {
    return this.#boundTo(host, port).length > 0;
  }

  /**
   * Puts the values in, in the place of their placeholders.
   * @returns what is to be sent, what it says of which secrets, and in which forms an answer could say them again
   */
  fill(
    to: { host: string; port: number },
    head: { path: string; headers: IncomingHttpHeaders },
  ): { path: string; headers: IncomingHttpHeaders; used: string[]; forms: Buffer[] } {
    const bound = this.#boundTo(to.host, to.port);
    let { path } = head;
    const headers = { ...head.headers };
    const used = new Set<string>();
    const forms = bound.flatMap((secret) => secret.forms);
    for (const secret of bound) {
      const { name, value, placeholder } = secret;
      for (const [header, given] of Object.entries(headers)) {
        if (given === undefined) continue;
        const put = (text: string) => {
          const basic = secret.basic && /^basic$/i.test(text.slice(0, 5)) && header.endsWith('authorization');
          if (basic) {
            const credentials = Buffer.from(text.slice(6), 'base64').toString('latin1');
            if (!credentials.includes(placeholder)) return text;
            const encoded = Buffer.from(
              credentials.replaceAll(placeholder, () => value),
              'latin1',
            ).toString('base64');
            used.add(name);
            forms.push(Buffer.from(encoded));
            return `${text.slice(0, 6)}${encoded}`;
          }
          if (!fits(secret.header, header) || !text.includes(placeholder)) return text;
          used.add(name);
          return text.replaceAll(placeholder, () => value);
        };
        headers[header] = Array.isArray(given) ? given.map(put) : put(given);
      }
      if (secret.query === false) continue;
      const [before, query] = split(path, '?');
      if (query === undefined || !query.includes(placeholder)) continue;
      const parameters = query.split('&').map((parameter) => {
        const [key, text] = split(parameter, '=');
        if (text === undefined || !fits(secret.query, decoded(key)) || !text.includes(placeholder)) return parameter;
        used.add(name);
        return `${key}=${text.replaceAll(placeholder, () => encodeURIComponent(value))}`;
      });
      path = `${before}?${parameters.join('&')}`;
    }
    return { path, headers, used: [...used], forms };
  }

  #boundTo(host: string, port: number) {
    return this.#all.filter(({ hosts }) =>
      hosts.some((rule) => rule.ports.has(port) && (rule.matchesName(host) || rule.matchesAddress(host))),
    );
  }
}

/** As it may be said again: by what servers commonly write a header, a URL, JSON or HTML with, or encode bytes. */
function formsOf(value: string): Buffer[] {
  const hex = (character: string, digits = 2) => character.charCodeAt(0).toString(16).padStart(digits, '0');
  const inUrl = encodeURIComponent(value);
  // As RFC 3986 has it, and with paths left as they are.
  const strict = inUrl.replace(/[!'()*]/g, (character) => `%${hex(character).toUpperCase()}`);
  const urls = [inUrl, strict].flatMap((url) => [url, url.replaceAll('%2F', '/')]);
  const json = JSON.stringify(value).slice(1, -1);
  const inHtml = (entities: Record<string, string>) =>
    value.replace(/[&<>"'+`=/]/g, (character) => entities[character] ?? character);
  const html = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };
  const all = [
    value,
    ...urls.flatMap((url) => [url, url.replace(/%../g, (code) => code.toLowerCase())]).flatMap(withPlus),
    json,
    json.replaceAll('/', '\\/'),
    ...['<>&', "<>&'", '<>&\'"+/'].map((some) =>
      [...value].map((one) => (some.includes(one) ? `\\u${hex(one, 4)}` : JSON.stringify(one).slice(1, -1))).join(''),
    ),
    inHtml(html),
    inHtml({ ...html, '"': '&quot;' }),
    inHtml({ ...html, '"': '&quot;', "'": '&#39;' }),
    inHtml({ ...html, '"': '&quot;', "'": '&#x27;' }),
    inHtml({ ...html, '"': '&quot;', "'": '&#039;' }),
    inHtml({ ...html, '"': '&#34;', "'": '&#39;', '+': '&#43;' }),
    inHtml({ ...html, '"': '&quot;', "'": '&#39;', '/': '&#x2F;', '`': '&#x60;', '=': '&#x3D;' }),
    Buffer.from(value).toString('hex'),
    Buffer.from(value).toString('hex').toUpperCase(),
    ...inBase64(value),
  ];
  return [...new Set(all)].map((form) => Buffer.from(form));
}

function withPlus(url: string): string[] {
  return [url, url.replaceAll('%20', '+')];
}

/** What says it wherever it stands in what is encoded: the characters at its ends depend on what is beside it, too. */
function inBase64(value: string): string[] {
  return [0, 1, 2].flatMap((before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(value)]);
    const from = Math.ceil((before * 8) / 6);
    const to = Math.floor((bytes.length * 8) / 6);
    return (['base64', 'base64url'] as const).map((encoding) => bytes.toString(encoding).slice(from, to));
  });
}

function fits(where: string | boolean, name: string): boolean {
  return where === true || where === name;
}

function split(text: string, at: string): [before: string, after: string | undefined] {
  const index = text.indexOf(at);
  return index === -1 ? [text, undefined] : [text.slice(0, index), text.slice(index + 1)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text; // no UTF-8: nobody asked for such a name
  }
}
