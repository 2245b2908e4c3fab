import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { answer, readQuestion } from '../../sandbox-agent/network/dns.ts';

export interface NameServer extends AsyncDisposable {
  /** As `SandboxHost.open({ dns })` takes it. */
  address: string;
  /** Names that were asked for, with the type. */
  asked: string[];
}

/** A name server on loopback. What a name has is taken anew for each question; an empty list is a name without an address. */
export async function openNameServer(names: Record<string, string[] | (() => string[])>): Promise<NameServer> {
  const socket = createSocket('udp4');
  const asked: string[] = [];
  socket.on('message', (message, from) => {
    const question = readQuestion(message);
    if (!question) return;
    asked.push(`${question.type} ${question.name}`);
    const found = names[question.name];
    if (!found) return socket.send(answer(question, 'NXDOMAIN'), from.port, from.address);
    const addresses = question.type === 'A' ? (typeof found === 'function' ? found() : found) : [];
    const whole = addresses.map((address) => answer(question, 'NOERROR', { address, ttl: 0 }));
    const [first = answer(question, 'NOERROR'), ...rest] = whole;
    // Each further record is the end of an answer of its own.
    const reply = Buffer.concat([first, ...rest.map((each) => each.subarray(-16))]);
    reply.writeUInt16BE(addresses.length, 6);
    socket.send(reply, from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    [Symbol.asyncDispose]: () => new Promise((resolve) => socket.close(resolve)),
  };
}
