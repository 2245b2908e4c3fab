import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { limits } from '../../src/protocol/limits.ts';
import { type ListeningPort, type NetworkPorts, proxyPort } from '../../src/protocol/network.ts';
import { hasCode } from '../fs/path.ts';

/** The kernel tells nobody; to look costs less than a tenth of a millisecond. */
const lookMs = 200;

/**
 * Of each table, that a sandbox could fill with connections. Linux has those that are listened at first; gVisor has them
 * anywhere.
 */
const mostBytes = 1024 * 1024;
const buffer = Buffer.alloc(64 * 1024);

/** The state in proc_net_tcp(5). */
const listening = '0A';

/** As the kernel writes addresses, in words of the machine's order: little-endian wherever the sandbox-agent runs. */
const addresses: Record<string, ListeningPort['address']> = {
  '0100007F': '127.0.0.1',
  '00000000': '0.0.0.0',
  '00000000000000000000000001000000': '::1',
  '00000000000000000000000000000000': '::',
  '0000000000000000FFFF00000100007F': '127.0.0.1',
  '0000000000000000FFFF000000000000': '0.0.0.0',
};

/**
 * Ports that servers listen at, where `connectInside` reaches them, without those of the sandbox-agent.
 * @param isProxyOurs - whether what listens at the port of the proxy is the sandbox-agent
 */
function listeningPorts(isProxyOurs: boolean): ListeningPort[] {
  const found = new Map<number, ListeningPort>();
  for (const path of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of readTable(path).split('\n')) {
      const [, place = '', , state] = line.trim().split(/\s+/);
      const [bytes = '', digits = ''] = place.split(':');
      const address = addresses[bytes];
      const port = Number.parseInt(digits, 16);
      if (state !== listening || !address || !(port > 0) || found.has(port)) continue;
      if (isProxyOurs && port === proxyPort && address === '127.0.0.1') continue;
      found.set(port, { port, address });
    }
  }
  return [...found.values()].sort((one, other) => one.port - other.port).slice(0, limits.listeningPorts);
}

let seen: ListeningPort[] | undefined;

/** As `listeningPorts`; all who ask in one turn of the event loop get the same: of them there may be thousands. */
function look(isProxyOurs: boolean): ListeningPort[] {
  if (!seen) {
    seen = listeningPorts(isProxyOurs);
    setImmediate(() => {
      seen = undefined;
    });
  }
  return seen;
}

/** Resolves with them at once, or when they are no longer those that are `known`, at the latest after `waitMs`. */
export async function portsBeside(
  { known, waitMs }: NetworkPorts,
  isProxyOurs: () => boolean,
  signal: AbortSignal,
): Promise<ListeningPort[]> {
  for (const since = performance.now(); ; ) {
    const ports = look(isProxyOurs());
    const isKnown = known?.length === ports.length && ports.every(({ port }, i) => port === known[i]);
    const leftMs = since + waitMs - performance.now();
    if (!isKnown || leftMs <= 0) return ports;
    await wait(Math.min(lookMs, leftMs), undefined, { signal });
  }
}

/** Its first part; empty where there is none, as that of IPv6 on a kernel without. */
function readTable(path: string): string {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
  try {
    const pieces: string[] = [];
    // The kernel gives a page of it at a time.
    for (let bytes = 0; bytes < mostBytes; ) {
      const read = readSync(file, buffer, 0, buffer.length, null);
      if (read === 0) break;
      pieces.push(buffer.toString('latin1', 0, read));
      bytes += read;
    }
    return pieces.join('');
  } finally {
    closeSync(file);
  }
}
