import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { mcpProgram, mcpTools } from './mcp-tools.ts';

interface ServerOptions {
  /** What `tools/list` gives, page by page. Default: the tools of `mcpProgram` on one page */
  pages?: { tools: object[]; nextCursor?: string }[];
  /** Default: streamable-http */
  transport?: 'streamable-http' | 'sse';
  /** Default: a free one */
  port?: number;
}

/** A server of the SDK's own classes on the loopback interface. */
export async function mcpHttpServer({ pages = [{ tools: mcpTools }], transport, port = 0 }: ServerOptions = {}) {
  const told: string[] = [];
  const requests: IncomingMessage[] = [];
  const sessions = new Map<string, { handle: StreamableHTTPServerTransport['handleRequest'] }>();
  const posts = new Map<string, SSEServerTransport>();
  const connect = async (to: Transport) => {
    const server = new Server({ name: 'test', version: '1' }, { capabilities: { tools: {} } });
    mcpProgram(server, { pages, told });
    await server.connect(to);
  };
  const http = createServer(async (request, response) => {
    requests.push(request);
    const url = new URL(request.url ?? '', 'http://loopback');
    if (transport === 'sse') {
      if (request.method === 'GET') {
        const sse = new SSEServerTransport('/messages', response);
        posts.set(sse.sessionId, sse);
        await connect(sse);
      } else await posts.get(url.searchParams.get('sessionId') ?? '')?.handlePostMessage(request, response);
      return;
    }
    const id = request.headers['mcp-session-id'];
    const session = sessions.get(String(id));
    if (session) return session.handle(request, response);
    if (id !== undefined) {
      response.writeHead(404).end('no such session');
      return;
    }
    const streamable = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => crypto.randomUUID(),
      onsessioninitialized: (made) => {
        sessions.set(made, { handle: (...of) => streamable.handleRequest(...of) });
      },
      onsessionclosed: (closed) => {
        told.push('session closed');
        sessions.delete(closed);
      },
    });
    // The SDK's own classes do not agree under exactOptionalPropertyTypes.
    await connect(streamable as Transport);
    await streamable.handleRequest(request, response);
  });
  http.listen(port, '127.0.0.1');
  await once(http, 'listening');
  const { port: taken } = http.address() as AddressInfo; // a TCP server that listens has one
  const stop = async () => {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  };
  return {
    url: `http://127.0.0.1:${taken}/mcp`,
    port: taken,
    /** What the program did, in its own words. */
    told,
    requests,
    /** As after a restart. */
    forget: () => sessions.clear(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
