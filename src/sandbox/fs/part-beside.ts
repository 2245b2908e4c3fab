import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';

/** Where what is to become `target` grows: on the same file system. The name is short, as that of `target` may be as long as any. */
export function partBeside(target: string): string {
  return join(dirname(target), `.berth-${randomBytes(8).toString('hex')}.part`);
}
