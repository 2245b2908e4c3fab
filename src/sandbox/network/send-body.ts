import type { Readable, Writable } from 'node:stream';

/**
 * Passes the body of a request on. Not by `pipeline`: where the server answers without reading it all, that would end the
 * client's connection, and with it the answer.
 */
export function sendBody(body: Readable, to: Writable): void {
  body.pipe(to);
  to.once('close', () => {
    body.unpipe(to);
    body.resume();
  });
}
