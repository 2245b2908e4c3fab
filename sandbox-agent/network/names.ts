import type { Socket } from 'node:dgram';
import { closeSync, constants, lstatSync, openSync, writeSync } from 'node:fs';
import type { NetworkServe } from '../../src/protocol/network.ts';
import { RequestError } from '../errors.ts';
import { hasCode } from '../fs/path.ts';
import { asRoot } from '../identity.ts';
import { replaceSmallFile } from '../small-file.ts';
import { answer, type Question, readQuestion } from './dns.ts';

const resolverFile = '/etc/resolv.conf';
const hostsFile = '/etc/hosts';
const dnsPort = 53;
/** Seconds that an address may be remembered: it stays that of its name for as long as the sandbox-agent runs. */
const ttl = 60;
/** Names that get an address: each has some servers, and each of those an open file. */
const mostNames = 256;

type Listen = (address: string, port: number, name: string) => Promise<unknown>;

/**
 * The name server of the sandbox. A name that a rule names has an address of the loopback of its own, at whose ports the
 * sandbox-agent listens; every other name does not exist. No question leaves the sandbox.
 */
export class Names {
  readonly #socket: Socket;
  readonly #listen: Listen;
  readonly #allowed: () => NetworkServe['names'];
  readonly #addresses = new Map<string, string>();

  private constructor(socket: Socket, listen: Listen, allowed: () => NetworkServe['names']) {
    this.#socket = socket;
    this.#listen = listen;
    this.#allowed = allowed;
    // It may have been closed meanwhile.
    socket.on('message', (message, from) => void this.#onMessage(message, from).catch(() => {}));
    socket.on('error', () => {}); // who asked is gone
  }

  /** @param allowed - looked at for each question */
  static open(listen: Listen, allowed: () => NetworkServe['names']): Promise<Names> {
    useAsNameServer();
    return new Promise((resolve, reject) => {
      const socket = process.getBuiltinModule('node:dgram').createSocket('udp4');
      socket.once('error', (error) => {
        reject(new RequestError('EADDRINUSE', `no name server can listen: ${error.message}`));
      });
      socket.bind(dnsPort, '127.0.0.1', () => resolve(new Names(socket, listen, allowed)));
    });
  }

  close(): void {
    this.#socket.close();
  }

  async #onMessage(message: Buffer, { address, port }: { address: string; port: number }): Promise<void> {
    const question = readQuestion(message);
    if (!question) return;
    const reply = await this.#answer(question);
    this.#socket.send(reply, port, address);
  }

  async #answer(question: Question): Promise<Buffer> {
    const ports = this.#portsOf(question.name);
    if (ports.length === 0) return answer(question, 'NXDOMAIN');
    if (question.type !== 'A') return answer(question, 'NOERROR'); // it has others
    const address = this.#addresses.get(question.name) ?? this.#newAddress(question.name);
    if (address === undefined) return answer(question, 'SERVFAIL');
    // Where a program has a port already, as a server on all addresses, the others may still be of use.
    await Promise.allSettled(ports.map((port) => this.#listen(address, port, question.name)));
    return answer(question, 'NOERROR', { address, ttl });
  }

  #portsOf(name: string): number[] {
    const fits = (pattern: string) =>
      pattern === '*' || (pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) : name === pattern);
    return [...new Set(this.#allowed().flatMap(({ pattern, ports }) => (fits(pattern) ? ports : [])))];
  }

  #newAddress(name: string): string | undefined {
    const number = this.#addresses.size + 1;
    if (number > mostNames) return undefined;
    const address = `127.64.${number >> 8}.${number & 0xff}`;
    this.#addresses.set(name, address);
    return address;
  }
}

/** Engines write that of their machine there, if any, which nobody reaches from here. */
function useAsNameServer(): void {
  const text = 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n';
  try {
    asRoot(() => {
      try {
        replaceSmallFile(resolverFile, text);
      } catch (error) {
        if (!hasCode(error, 'EBUSY')) throw error;
        writeMounted(resolverFile, text);
      }
    });
  } catch (error) {
    // Programs that know proxies do without; the others find no name.
    console.error(`${resolverFile} can’t be written:`, error);
  }
}

/** What an engine has mounted there can't be replaced. */
function writeMounted(path: string, text: string): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    writeSync(file, text);
  } finally {
    closeSync(file);
  }
}

/** To be called as root. Engines do it only for a container with a network; what one has put there stays. */
export function nameLoopback(): void {
  try {
    if (lstatSync(hostsFile, { throwIfNoEntry: false })?.size) return;
    replaceSmallFile(hostsFile, '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n');
  } catch (error) {
    console.error(`${hostsFile} can’t be written:`, error);
  }
}
