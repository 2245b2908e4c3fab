import type { Socket, SocketOptions } from 'node:dgram';
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
    return new Promise((resolve, reject) => {
      // Without the resolver of Node: see `bindTcp`.
      const lookup: SocketOptions['lookup'] = (address, _options, callback) => callback(null, address, 4);
      const socket = process.getBuiltinModule('node:dgram').createSocket({ type: 'udp4', lookup });
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

/**
 * Has programs ask the name server of the sandbox-agent. Engines write that of their machine there, if any, which nobody
 * reaches from here, and a rollback what was there before.
 */
export function useNameServer(): void {
  try {
    asRoot(() => put(resolverFile, 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n'));
  } catch (error) {
    // Programs that know proxies do without; the others find no name.
    console.error(`${resolverFile} can’t be written:`, error);
  }
}

/** To be called as root. Engines do it only for a container with a network; what one has put there stays. */
export function nameLoopback(): void {
  try {
    if (lstatSync(hostsFile, { throwIfNoEntry: false })?.size) return;
    put(hostsFile, '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n');
  } catch (error) {
    console.error(`${hostsFile} can’t be written:`, error);
  }
}

function put(path: string, text: string): void {
  try {
    replaceSmallFile(path, text);
  } catch (error) {
    // What an engine has mounted can't be replaced, and neither can what is in a directory that is not root's; it can be
    // written to, as it is root's.
    if (!hasCode(error, 'EBUSY') && !hasCode(error, 'EACCES')) throw error;
    const { O_WRONLY, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants;
    const file = openSync(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK);
    try {
      writeSync(file, text);
    } finally {
      closeSync(file);
    }
  }
}
