import { sha1 } from '../openssl.ts';

const magic = 0xfeed_feed;
const version = 2;
const trustedCertificate = 2;
/** That of Java's own; who gives none has the store read without looking at the digest. */
const password = 'changeit';

/** The certificates of a bundle in PEM as Java reads them: a store of the kind JKS, as `keytool` writes it. */
export function javaStore(bundle: string): Buffer {
  const certificates = bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const parts = [integer(magic), integer(version), integer(certificates.length)];
  for (const [i, pem] of certificates.entries()) {
    const der = Buffer.from(pem.replace(/-----[A-Z ]+-----/g, ''), 'base64');
    parts.push(
      integer(trustedCertificate),
      text(`certificate-${i}`),
      Buffer.alloc(8),
      text('X.509'),
      integer(der.length),
      der,
    );
  }
  const content = Buffer.concat(parts);
  const wide = Buffer.from(password, 'utf16le').swap16();
  return Buffer.concat([content, sha1(Buffer.concat([wide, Buffer.from('Mighty Aphrodite'), content]))]);
}

function integer(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function text(value: string): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(value.length);
  return Buffer.concat([length, Buffer.from(value)]);
}
