import type { Duplex } from 'node:stream';

/** For a program to say what it wants. */
const patienceMs = 60_000;

/** @returns the first byte that comes, which is still there to be read. `undefined`: none came, and it is destroyed */
export function firstByte(program: Duplex): Promise<number | undefined> {
  return new Promise((resolve) => {
    const patience = setTimeout(() => program.destroy(), patienceMs);
    const done = (byte: number | undefined) => {
      clearTimeout(patience);
      program.off('readable', look).off('end', none).off('close', none);
      resolve(byte);
    };
    const none = () => {
      program.destroy();
      done(undefined);
    };
    const look = () => {
      const chunk = program.read() as Buffer | null;
      if (chunk === null) return;
      program.unshift(chunk);
      done(chunk[0]);
    };
    program.on('readable', look).once('end', none).once('close', none);
  });
}
