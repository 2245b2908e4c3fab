import { connect, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

const patienceMs = 5_000;

/**
 * Joins standard input and output with the sandbox-agent's socket: how the wire gets in where host and engine share no
 * files. It decides nothing: who is on the other end has to prove itself to the sandbox-agent as on any connection.
 */
export async function bridge(socketPath: string): Promise<void> {
  let socket: Socket;
  try {
    socket = await connectPatiently(socketPath);
  } catch (error) {
    return fail(error as Error);
  }
  socket.on('error', fail);
  socket.on('close', () => process.exit(0));
  // A host that is gone takes standard output with it.
  process.stdout.on('error', () => process.exit(1));
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
}

/** The host does not see when the sandbox-agent listens: in a new container that may be in a moment. */
export async function connectPatiently(path: string): Promise<Socket> {
  for (const deadline = Date.now() + patienceMs; ; ) {
    try {
      return await connectOnce(path);
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await wait(10);
    }
  }
}

function connectOnce(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

function fail(error: Error): void {
  console.error(error.message);
  process.exit(1);
}
