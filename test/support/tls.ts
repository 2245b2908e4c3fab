import 'reflect-metadata'; // before what is made with decorators
import { KeyObject, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
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

export interface TestAuthority {
  /** PEM, of what a client is to trust. */
  ca: string;
  /** Of a server with these names and addresses, as `node:tls` takes it. */
  certificateFor(...names: string[]): Promise<{ key: string; cert: string }>;
}

const hourMs = 3_600_000;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** An authority for the certificates of a test's servers; valid for a day. */
export async function testAuthority(): Promise<TestAuthority> {
  const keys = await newKeys();
  const validity = { notBefore: new Date(Date.now() - hourMs), notAfter: new Date(Date.now() + 24 * hourMs) };
  const authority = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=Authority of a test',
    keys,
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    ca: authority.toString('pem'),
    async certificateFor(...names) {
      const { publicKey, privateKey } = await newKeys();
      const certificate = await X509CertificateGenerator.create({
        subject: 'CN=Server of a test',
        issuer: authority.subject,
        publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        ...validity,
        extensions: [
          new SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) ? 'ip' : 'dns', value }))),
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
          // Strict clients, as Python from 3.13 on, want to find the authority by it.
          await AuthorityKeyIdentifierExtension.create(authority),
          await SubjectKeyIdentifierExtension.create(publicKey),
        ],
      });
      const key = KeyObject.from(privateKey).export({ type: 'pkcs8', format: 'pem' }).toString();
      return { key, cert: certificate.toString('pem') };
    },
  };
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}
