// What both sides of a comparison work on.

const KiB = 1024;
const MiB = 1024 * KiB;

/** Content of a small file. */
export const small = Buffer.alloc(4 * KiB, 'berth');

const printedBytes = 1024 * MiB;
/** A command with much output. */
export const print = ['head', '-c', String(printedBytes), '/dev/zero'];

/** Reads all of that output. */
export async function countPrinted(output: AsyncIterable<Buffer>): Promise<void> {
  let read = 0;
  for await (const chunk of output) read += chunk.length;
  if (read !== printedBytes) throw new Error(`${read} bytes came`);
}

export const bigBytes = 256 * MiB;

/** Where the files are that are sent, and those that come. */
export function hostFiles(directory: string) {
  return { big: `${directory}/big`, tree: `${directory}/tree`, copy: `${directory}/copy` };
}
