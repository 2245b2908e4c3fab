import { once } from 'node:events';
import type { Process, Sandbox } from '../../src/sandbox/index.ts';

/** Starts what `code`, an expression, makes a server of Node of; resolves when it listens at that port of the loopback. */
export async function listenInside(sandbox: Sandbox, port: number, code: string): Promise<Process> {
  const program = `(${code}).listen(${port}, '127.0.0.1', () => console.log('ready'))`;
  const server = await sandbox.spawn(['node', '-e', program]);
  await once(server.stdout, 'data');
  return server;
}
