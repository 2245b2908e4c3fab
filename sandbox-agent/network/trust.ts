import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
} from 'node:fs';
import { authorityFiles, type NetworkServe } from '../../src/protocol/network.ts';
import { asRoot } from '../identity.ts';
import { readSmallFile, replaceSmallFile } from '../small-file.ts';
import { javaStore } from './java-store.ts';

type Authority = NonNullable<NetworkServe['authority']>;

/** Where distributions have the certificates that they trust, in one file: Debian and Alpine, Fedora, SUSE, OpenSSL's own. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
/** Where OpenSSL looks for one by the hash of its name, when no file is named. */
const hashedDirectories = ['/etc/ssl/certs', '/etc/pki/tls/certs'];
/** What Debian's and Alpine's `update-ca-certificates` makes the bundle of again. */
const additions = '/usr/local/share/ca-certificates';

const begin = '# Berth: the host that this sandbox has its network from\n';
const end = '# Berth: the end\n';

/** Has an authority of the host's trusted by the programs of the sandbox. */
export class Trust {
  #authority: Authority | undefined;
  /** What the bundle was made of. */
  #made = '';

  set(authority: Authority | undefined): void {
    if (authority === this.#authority) return;
    this.#authority = authority;
    this.refresh();
  }

  /** A program may have installed or changed the certificates of the system: those of `authorityFiles` follow. */
  refresh(): void {
    if (!this.#authority) return;
    const { certificate, hash } = this.#authority;
    try {
      asRoot(() => {
        if (this.#state(certificate) === this.#made) return;
        trust(certificate, hash);
        this.#made = this.#state(certificate);
      });
    } catch (error) {
      // Programs refuse the connections that the host looks into, and say that they do not trust it.
      console.error('the authority of the host can’t be made known:', error);
      this.#made = asRoot(() => this.#state(certificate));
    }
  }

  #state(certificate: string): string {
    const seen = [...systemBundles, authorityFiles.bundle].map((path) => {
      const stats = look(path);
      return stats && [stats.ino, stats.size, stats.mtimeMs];
    });
    return JSON.stringify([certificate, seen]);
  }
}

function trust(certificate: string, hash: string): void {
  const block = `${begin}${certificate.trim()}\n${end}`;
  const found = systemBundles.filter((path) => isFile(path));
  const bundles = new Map(found.map((path) => [realpathSync(path), readSmallFile(path)]));
  for (const [path, text] of bundles) {
    const wanted = `${withoutBlock(text)}${block}`;
    if (text !== wanted) replaceSmallFile(path, wanted);
  }
  const [system = ''] = bundles.values();
  const bundle = `${withoutBlock(system)}${block}`;
  if (!isDirectory(authorityFiles.directory)) mkdirSync(authorityFiles.directory, { mode: 0o755 });
  replaceSmallFile(authorityFiles.own, `${certificate.trim()}\n`);
  replaceSmallFile(authorityFiles.bundle, bundle);
  replaceSmallFile(authorityFiles.javaStore, javaStore(bundle));
  for (const directory of hashedDirectories) if (isDirectory(directory)) link(directory, `${hash}.0`);
  if (isDirectory(additions)) link(additions, 'berth.crt');
}

function withoutBlock(text: string): string {
  const [before = '', ...rest] = text.split(begin);
  const kept = [before, ...rest.map((part) => part.split(end).slice(1).join(end))].join('');
  return kept === '' || kept.endsWith('\n') ? kept : `${kept}\n`;
}

/** To the certificate; those of other names, of a host before, go. */
function link(directory: string, name: string): void {
  for (const entry of readdirSync(directory)) {
    const path = `${directory}/${entry}`;
    const isOurs = lstatSync(path).isSymbolicLink() && readlinkSync(path) === authorityFiles.own;
    if (isOurs && entry !== name) rmSync(path);
  }
  if (lstatSync(`${directory}/${name}`, { throwIfNoEntry: false }) === undefined) {
    symlinkSync(authorityFiles.own, `${directory}/${name}`);
  }
}

function isFile(path: string): boolean {
  return look(path)?.isFile() === true;
}

function isDirectory(path: string): boolean {
  return look(path)?.isDirectory() === true;
}

/** A command that is root may have put a link to itself there, say: that is nothing. */
function look(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
