import type { IncomingMessage } from 'node:http';

/** Of one connection only (RFC 9110, section 7.6.1), what is meant for a proxy, and what is answered by whoever reads it. */
const hopByHop = new Set(
  (
    'connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade ' +
    'http2-settings expect'
  ).split(' '),
);

/**
 * Whether a field, by its name in lower case, is not for whoever is behind.
 * @param connection - the field of that name, which names further ones
 */
export function hopsOf(connection = ''): (name: string) => boolean {
  const named = new Set(connection.toLowerCase().split(/\s*,\s*/));
  named.delete('content-length'); // it says where the body ends
  return (name) => hopByHop.has(name) || named.has(name);
}

/** Whether a body follows. Node takes no other `Transfer-Encoding` than one that ends with `chunked`. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
