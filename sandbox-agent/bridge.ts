import { connect } from 'node:net';

/**
 * Joins standard input and output with the sandbox-agent's socket: how the wire gets in where host and engine share no
 * files. It decides nothing: who is on the other end has to prove itself to the sandbox-agent as on any connection.
 */
export function bridge(socketPath: string): void {
  const socket = connect({ path: socketPath, allowHalfOpen: true });
  socket.on('error', (error) => {
    console.error(error.message);
    process.exit(1);
  });
  socket.on('close', () => process.exit(0));
  // A host that is gone takes standard output with it.
  process.stdout.on('error', () => process.exit(1));
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
}
