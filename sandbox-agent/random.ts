import { openSync, readSync } from 'node:fs';

/**
 * Opened before anything else runs: later root in the sandbox may have put something in its place. `node:crypto` would do
 * it, too, and take a tenth of all memory of the sandbox-agent.
 */
const source = openSync('/dev/urandom', 'r');

export function randomHex(bytes: number): string {
  const buffer = Buffer.allocUnsafe(bytes);
  // The kernel gives up to 256 bytes as one: random(4).
  readSync(source, buffer);
  return buffer.toString('hex');
}
