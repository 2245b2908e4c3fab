import { setTimeout as sleep } from 'node:timers/promises';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { JSONRPCMessage, RequestId } from '@modelcontextprotocol/sdk/types.js';
import { after } from '../after.ts';
import { maxMessageBytes } from './message-size.ts';
import type { RemoteMcpOptions } from './options.ts';

const connectionClosed = -32_000; // the protocol's code
const lastMessageMs = 1_000;

/** A server over HTTP. `lost` is called when it is known to be gone. */
export async function remoteTransport(options: RemoteMcpOptions, lost: (reason: string) => void): Promise<Transport> {
  const { requestInit, headers } = options;
  const all = new Headers(requestInit?.headers);
  for (const [name, value] of Object.entries(headers ?? {})) all.set(name, value);
  const given = { requestInit: { ...requestInit, headers: all } };
  if (options.transport === 'sse') {
    const { SSEClientTransport, SseError } = await import('@modelcontextprotocol/sdk/client/sse.js');
    const transport = new SSEClientTransport(new URL(options.url), { ...given, fetch: boundedFetch(options) });
    // It would open another stream by itself, to a session that nobody has initialized.
    transport.onerror = (error) => {
      if (error instanceof SseError) lost(error.message);
    };
    return transport;
  }
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const answers = new Answers();
  const transport = new StreamableHTTPClientTransport(new URL(options.url), {
    ...given,
    fetch: boundedFetch(options, answers),
  });
  answers.watch(transport);
  const close = transport.close.bind(transport);
  transport.close = async () => {
    const patience = new AbortController();
    // The server can forget the session; one that is gone has. For a token, too, it is not waited longer.
    await Promise.race([
      transport.terminateSession().catch(() => {}),
      sleep(lastMessageMs, undefined, { signal: patience.signal }).catch(() => {}),
    ]);
    patience.abort();
    await close();
  };
  return transport;
}

/** Asks `auth` at each request, and holds no more of an answer than a message may have. */
function boundedFetch({ fetch: ask = fetch, auth }: RemoteMcpOptions, answers?: Answers) {
  return async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers);
    if (auth !== undefined) headers.set('authorization', `Bearer ${typeof auth === 'string' ? auth : await auth()}`);
    const id = answers?.expect(init);
    const response = await ask(url, { ...init, headers });
    if (!response.body) return response;
    const isStream = response.headers.get('content-type')?.includes('text/event-stream') === true;
    const body = bounded(response.body, isStream, (resumable) => {
      if (id !== undefined && isStream && !resumable) answers?.end(id);
    });
    const { status, statusText } = response;
    return new Response(ReadableStream.from(body), { status, statusText, headers: response.headers });
  };
}

async function* bounded(
  body: AsyncIterable<Uint8Array>,
  isStream: boolean,
  ended: (resumable: boolean) => void,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  let resumable = false;
  try {
    for await (const chunk of body) {
      const text = isStream ? Buffer.from(chunk).toString('latin1') : '';
      const lastEvent = Math.max(text.lastIndexOf('\n\n'), text.lastIndexOf('\r\n\r\n'));
      bytes = lastEvent < 0 ? bytes + chunk.length : chunk.length - lastEvent;
      if (bytes > maxMessageBytes) throw new Error(`a message has more than ${maxMessageBytes} bytes`);
      resumable ||= /^id:/m.test(text);
      yield chunk;
    }
  } finally {
    ended(resumable);
  }
}

/**
 * The requests that wait for an answer. Of an answer that breaks off, and that can't be resumed, the SDK says nothing: it
 * would wait until the timeout.
 */
class Answers {
  readonly #waiting = new Set<RequestId>();
  #transport: Transport | undefined;

  watch(transport: Transport): void {
    this.#transport = transport;
    transport.onmessage = (message: JSONRPCMessage) => {
      if ('id' in message && !('method' in message) && message.id !== undefined) this.#waiting.delete(message.id);
    };
  }

  /** @returns the id of what is sent, if it is a request */
  expect({ method, body }: RequestInit): RequestId | undefined {
    if (method !== 'POST' || typeof body !== 'string') return undefined;
    const { id, method: asked }: { id?: RequestId; method?: string } = JSON.parse(body); // what the SDK has just written
    if (id === undefined || asked === undefined) return undefined;
    this.#waiting.add(id);
    return id;
  }

  end(id: RequestId): void {
    // What came last is still to be parsed.
    after(lastMessageMs, () => {
      if (!this.#waiting.delete(id)) return;
      const error = { code: connectionClosed, message: 'The connection broke off before the answer was complete' };
      this.#transport?.onmessage?.({ jsonrpc: '2.0', id, error });
    });
  }
}
