import { dlopen } from 'node:ffi';

// What of `node:crypto` is needed, from the OpenSSL that is in Node and that it exports for addons. Loading the module itself
// takes a tenth of all memory of the sandbox-agent, and a sixth of the time of its start.
const openssl = dlopen(null, {
  EVP_sha1: { arguments: [], return: 'pointer' },
  EVP_sha256: { arguments: [], return: 'pointer' },
  EVP_Digest: { arguments: ['buffer', 'i64', 'buffer', 'pointer', 'pointer', 'pointer'], return: 'i32' },
  EVP_PKEY_new_raw_public_key: { arguments: ['i32', 'pointer', 'buffer', 'i64'], return: 'pointer' },
  EVP_PKEY_free: { arguments: ['pointer'], return: 'void' },
  EVP_MD_CTX_new: { arguments: [], return: 'pointer' },
  EVP_MD_CTX_free: { arguments: ['pointer'], return: 'void' },
  EVP_DigestVerifyInit: { arguments: ['pointer', 'pointer', 'pointer', 'pointer', 'pointer'], return: 'i32' },
  EVP_DigestVerify: { arguments: ['pointer', 'buffer', 'i64', 'buffer', 'i64'], return: 'i32' },
}).functions;

const none = 0n;
/** EVP_PKEY_ED25519. */
const ed25519 = 1_087;

export function sha1(bytes: Uint8Array): Buffer {
  return digest(openssl.EVP_sha1(), 20, bytes);
}

export function sha256(bytes: Uint8Array): Buffer {
  return digest(openssl.EVP_sha256(), 32, bytes);
}

function digest(algorithm: bigint, length: number, bytes: Uint8Array): Buffer {
  const result = outside(length);
  if (openssl.EVP_Digest(bytes, BigInt(bytes.length), result, none, algorithm, none) !== 1) {
    throw new Error('EVP_Digest failed');
  }
  return result;
}

/** Whether this is the Ed25519 signature of these bytes by who has the other half of the key, which has 32 bytes. */
export function isSignatureOf(bytes: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  const key = openssl.EVP_PKEY_new_raw_public_key(ed25519, none, publicKey, BigInt(publicKey.length));
  const context = openssl.EVP_MD_CTX_new();
  try {
    // One that is null fails here.
    return (
      openssl.EVP_DigestVerifyInit(context, none, none, none, key) === 1 &&
      openssl.EVP_DigestVerify(context, signature, BigInt(signature.length), bytes, BigInt(bytes.length)) === 1
    );
  } finally {
    openssl.EVP_MD_CTX_free(context);
    openssl.EVP_PKEY_free(key);
  }
}

/** Memory that V8 does not move. */
function outside(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length));
}
