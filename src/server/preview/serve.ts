import { isIP } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import type { SandboxHost } from '../../sandbox/index.ts';
import { type Asked, isAddress, tokenParameter } from '../../sandbox/preview/access.ts';
import type { Page } from '../../sandbox/preview/page.ts';
import { type Preview, PreviewServer } from '../../sandbox/preview/server.ts';
import { Connected } from './connected.ts';

export interface ServeOptions {
  /** An address or a name of this machine; a name is one that it may be asked for by. */
  address: string;
  /** 0: any. */
  port: number;
  /** Left out: whoever reaches it is let in. */
  token?: string | undefined;
}

/** A port of a sandbox, by its name or its path. */
interface Place {
  sandboxId: string;
  port: number;
  /** Of a path, what stands in front of the server's own; of a name empty. */
  prefix: string;
  /** The URL of another port, named in the same way. */
  urlOf: (port: number) => string;
}

const mostConnections = 1_024;
/** Running sandboxes that the index has, the newest ones: it asks each of them. */
const mostListed = 100;
const patienceMs = 2_000;

const id = '[a-z0-9][a-z0-9_.-]{0,62}';
const pathPattern = new RegExp(`^(/sandboxes/(${id})/ports/(\\d{1,5}))([/?].*)?$`);

/**
 * Serves the ports of all sandboxes of a state directory: `http://PORT-ID.localhost:7070/…`, each an origin of its own, and
 * for programs that can't resolve such a name `/sandboxes/ID/ports/PORT/…`. The index is at `/`.
 */
export function servePreviews(host: SandboxHost, { address, port, token }: ServeOptions): Promise<PreviewServer> {
  const sandboxes = new Connected(host);
  const name = isIP(address) === 0 && address !== 'localhost' ? address.toLowerCase() : undefined;
  const names = ['localhost', ...(name === undefined ? [] : [name])];
  return PreviewServer.open({
    address,
    port,
    token,
    name,
    mostConnections,
    // The ports of a sandbox are parts of one program.
    isOwn: (one, other) => {
      const [from, to] = [placeOfHost(one, names), placeOfHost(other, names)];
      return from !== undefined && to !== undefined && from.urlOf(to.port) === to.urlOf(to.port);
    },
    find: async (asked) => {
      const isOfAll = isAddress(asked.name) || names.includes(asked.name);
      if (isOfAll && /^\/($|\?)/.test(asked.target)) return indexPage(host, sandboxes, asked, token);
      const place = isOfAll ? placeOfPath(asked) : placeOfHost(asked.host, names);
      if (!place) return notFound;
      if ('status' in place) return place;
      if (place.port < 1 || place.port > 65_535) return { ...notFound, status: 400, title: `${place.port} is no port` };
      return previewOf(sandboxes, place);
    },
  });
}

const notFound: Page = {
  status: 404,
  title: 'There is nothing here',
  text: 'A server in a sandbox is at PORT-ID.localhost, and below /sandboxes/ID/ports/PORT/.',
};

function placeOfHost(host: string, names: readonly string[]): Place | undefined {
  for (const name of names) {
    const below = `${name.replaceAll('.', '\\.')}(?::\\d+)?`;
    const [, port, sandboxId, base] = new RegExp(`^(\\d{1,5})-(${id})\\.(${below})$`).exec(host) ?? [];
    if (sandboxId === undefined) continue;
    return { sandboxId, port: Number(port), prefix: '', urlOf: (other) => `http://${other}-${sandboxId}.${base}/` };
  }
  return undefined;
}

function placeOfPath({ target }: Asked): Place | Page | undefined {
  const [, prefix = '', sandboxId, port, rest] = pathPattern.exec(target) ?? [];
  if (sandboxId === undefined) return undefined;
  if (!rest?.startsWith('/')) {
    // Without the slash, what is relative in a page would lead beside it.
    const location = `${prefix}/${rest ?? ''}`;
    return { status: 308, title: 'It ends with a slash', text: location, headers: { location } };
  }
  return { sandboxId, port: Number(port), prefix, urlOf: (other) => `/sandboxes/${sandboxId}/ports/${other}/` };
}

function previewOf(sandboxes: Connected, { sandboxId, port, prefix, urlOf }: Place): Preview {
  return {
    port,
    prefix,
    dial: () => sandboxes.with(sandboxId, (sandbox) => sandbox.dial(port)),
    openPorts: async () => {
      const open = await sandboxes.with(sandboxId, (sandbox) => sandbox.ports());
      return open.map(({ port: other }) => ({ port: other, url: urlOf(other) }));
    },
  };
}

/** The sandboxes that run, and their ports. Only here a link has the token: no page of a sandbox may read this one. */
async function indexPage(
  host: SandboxHost,
  sandboxes: Connected,
  { name, host: asked }: Asked,
  token?: string,
): Promise<Page> {
  const running = (await host.list()).filter(({ state }) => state === 'running');
  const query = token === undefined ? '' : `?${tokenParameter}=${token}`;
  // By an address other than that of the loopback somebody asks from where names below localhost are others.
  const below = /^(127\.|\[::1\]$)/.test(name) ? asked.replace(name, 'localhost') : isAddress(name) ? undefined : asked;
  const lists = running.slice(0, mostListed).map(async ({ id: sandboxId }) => {
    const ports = await Promise.race([
      sandboxes.with(sandboxId, (sandbox) => sandbox.ports()).catch(() => undefined),
      wait(patienceMs, undefined, { ref: false }),
    ]);
    const links = ports?.map(({ port }) => ({
      label: `port ${port}`,
      url: `${below ? `http://${port}-${sandboxId}.${below}/` : `/sandboxes/${sandboxId}/ports/${port}/`}${query}`,
    }));
    const none = { label: links ? 'no server listens' : 'it does not answer' };
    return { title: sandboxId, links: links?.length ? links : [none] };
  });
  const count = `${running.length} ${running.length === 1 ? 'sandbox runs' : 'sandboxes run'}`;
  const text = running.length > mostListed ? `${count}; these are the newest ${mostListed}.` : `${count}.`;
  return {
    status: 200,
    title: 'Servers in sandboxes',
    text,
    lists: await Promise.all(lists),
    headers: { 'x-frame-options': 'DENY' },
  };
}
