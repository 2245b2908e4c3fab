import { createHash, KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import 'reflect-metadata'; // that library needs it, and does not bring it
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const dayMs = 24 * 60 * 60 * 1000;
/** The clock of a sandbox's machine may be slow. */
const backDatedMs = dayMs;
const ownMs = 5 * 365 * dayMs;
const certificateMs = 30 * dayMs;
/** Made anew after that, so that the one in use is never about to end. */
const keptMs = dayMs;
/** Names whose certificates are kept; programs may ask for any below a wildcard. */
const mostKept = 1_000;

/**
 * Who signs the certificates that programs in sandboxes see in place of a server's, where the host reads what they say to
 * it. One a host process; its key is in this process only, and goes with it.
 */
export class Authority {
  /** Its certificate, in PEM: what sandboxes trust. */
  readonly certificate: string;
  /** That OpenSSL gives its subject. */
  readonly hash: string;
  readonly #name: string;
  readonly #keys: webcrypto.CryptoKeyPair;
  /** Of all certificates that it signs. */
  readonly #serverKeys: webcrypto.CryptoKeyPair;
  readonly #serverKey: string;
  readonly #kept = new Map<string, { certificate: Promise<{ cert: string; key: string }>; at: number }>();

  private constructor(
    commonName: string,
    certificate: string,
    keys: webcrypto.CryptoKeyPair,
    server: { keys: webcrypto.CryptoKeyPair; pem: string },
  ) {
    this.#name = `CN=${commonName}`;
    this.hash = hashOf(commonName);
    this.certificate = certificate;
    this.#keys = keys;
    this.#serverKeys = server.keys;
    this.#serverKey = server.pem;
  }

  static async make(): Promise<Authority> {
    const [keys, serverKeys] = await Promise.all([makeKeys(), makeKeys()]);
    // Two of them in one bundle are not to be taken for each other.
    const commonName = `Berth ${randomBytes(4).toString('hex')}`;
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: `CN=${commonName}`,
      ...validFor(ownMs),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    const pem = KeyObject.from(serverKeys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString();
    return new Authority(commonName, certificate.toString('pem'), keys, { keys: serverKeys, pem });
  }

  /** What a server of this name or address shows. */
  certificateFor(host: string): Promise<{ cert: string; key: string }> {
    const kept = this.#kept.get(host);
    if (kept && Date.now() - kept.at < keptMs) return kept.certificate;
    this.#kept.delete(host); // the map has the oldest first
    const certificate = this.#sign(host);
    this.#kept.set(host, { certificate, at: Date.now() });
    if (this.#kept.size > mostKept) this.#kept.delete(this.#kept.keys().next().value ?? '');
    return certificate;
  }

  async #sign(host: string): Promise<{ cert: string; key: string }> {
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: 'O=Berth', // names are looked for in the extension only, and one may be too long for here
      issuer: this.#name,
      ...validFor(certificateMs),
      publicKey: this.#serverKeys.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([{ type: isIP(host) ? 'ip' : 'dns', value: host }]),
        await SubjectKeyIdentifierExtension.create(this.#serverKeys.publicKey),
        await AuthorityKeyIdentifierExtension.create(this.#keys.publicKey),
      ],
    });
    return { cert: certificate.toString('pem'), key: this.#serverKey };
  }
}

/** X509_NAME_hash: the begin of SHA-1 over the canonical form, which is in lower case, of a subject of one name. */
function hashOf(commonName: string): string {
  const value = Buffer.from(commonName.toLowerCase());
  const tagged = (tag: number, content: Buffer) => Buffer.concat([Buffer.of(tag, content.length), content]);
  const identifier = Buffer.of(0x06, 3, 0x55, 4, 3); // 2.5.4.3
  const name = tagged(0x31, tagged(0x30, Buffer.concat([identifier, tagged(0x0c, value)])));
  return createHash('sha1').update(name).digest().readUInt32LE().toString(16).padStart(8, '0');
}

function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

function serialNumber(): string {
  // Positive, and not 0.
  return `01${randomBytes(15).toString('hex')}`;
}

function validFor(ms: number): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(Date.now() - backDatedMs), notAfter: new Date(Date.now() + ms) };
}
