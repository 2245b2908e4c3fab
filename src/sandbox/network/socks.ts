import type { Duplex } from 'node:stream';
import type { Refusal } from './outgoing.ts';

/**
 * Reads the greeting and the request of SOCKS5 (RFC 1928), without authentication.
 * @throws {Error} it is something else
 */
export async function readSocksRequest(program: Duplex): Promise<{ host: string; port: number }> {
  const [, methods = 0] = await bytes(program, 2);
  if (!(await bytes(program, methods)).includes(0)) {
    program.end(Buffer.of(5, 0xff));
    throw new Error('SOCKS5 without a method that is known');
  }
  program.write(Buffer.of(5, 0));
  const [version, command, , kind] = await bytes(program, 4);
  if (version !== 5) throw new Error('no SOCKS5');
  const host = await hostOf(program, kind);
  const port = (await bytes(program, 2)).readUInt16BE(0);
  if (command !== 1 || host === undefined || port === 0) {
    program.end(answer(command === 1 ? 8 : 7));
    throw new Error('SOCKS5 for something else than a connection');
  }
  return { host, port };
}

/** How the request ended. */
export function socksReply(refusal: Refusal | undefined): Buffer {
  if (!refusal) return answer(0);
  return answer(refusal.isFailure ? 4 : 2); // host unreachable; not allowed by the ruleset
}

function answer(code: number): Buffer {
  return Buffer.of(5, code, 0, 1, 0, 0, 0, 0, 0, 0);
}

async function hostOf(program: Duplex, kind: number | undefined): Promise<string | undefined> {
  if (kind === 1) return (await bytes(program, 4)).join('.');
  if (kind === 4) {
    const address = await bytes(program, 16);
    return Array.from({ length: 8 }, (_, i) => address.readUInt16BE(2 * i).toString(16)).join(':');
  }
  if (kind !== 3) return undefined;
  const [length = 0] = await bytes(program, 1);
  return (await bytes(program, length)).toString('latin1');
}

/** Exactly so many. @throws {Error} there are less */
function bytes(program: Duplex, count: number): Promise<Buffer> {
  if (count === 0) return Promise.resolve(Buffer.alloc(0));
  return new Promise((resolve, reject) => {
    const look = () => {
      const read = program.read(count) as Buffer | null;
      if (read === null && !program.readableEnded && !program.destroyed) return;
      program.off('readable', look);
      program.off('close', look);
      program.off('end', look);
      if (read?.length === count) resolve(read);
      else reject(new Error('the program has gone'));
    };
    program.on('readable', look);
    program.on('close', look);
    program.on('end', look);
    look();
  });
}
