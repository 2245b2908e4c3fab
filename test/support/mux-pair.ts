import { Mux } from '../../src/protocol/mux.ts';

export interface MuxPair {
  host: Mux;
  agent: Mux;
  messages: { host: Uint8Array[]; agent: Uint8Array[] };
  /** As when the connection breaks. */
  close(): void;
}

/** Both ends of a wire, connected in memory. Bytes arrive in a later microtask, as they would from a socket. */
export function muxPair(): MuxPair {
  const messages: MuxPair['messages'] = { host: [], agent: [] };
  const host: Mux = new Mux({
    side: 'host',
    send: (pieces) => queueMicrotask(() => agent.receive(Buffer.concat(pieces))),
    onMessage: (payload) => messages.host.push(payload),
  });
  const agent: Mux = new Mux({
    side: 'agent',
    send: (pieces) => queueMicrotask(() => host.receive(Buffer.concat(pieces))),
    onMessage: (payload) => messages.agent.push(payload),
  });
  return {
    host,
    agent,
    messages,
    close() {
      host.close();
      agent.close();
    },
  };
}
