import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import type { AnySchema, SchemaOutput } from '@modelcontextprotocol/sdk/server/zod-compat.js';
import type { ClientRequest, ServerCapabilities } from '@modelcontextprotocol/sdk/types.js';
import { abortError, BerthError } from '../../errors.ts';
import { LinkedAbort } from '../linked-abort.ts';
import { unlessIgnored } from '../unless-ignored.ts';
import { McpConnectionError } from './errors.ts';
import { Link } from './link.ts';
import type { McpServerOptions } from './options.ts';

/** With these a server answers that has forgotten the session: it did not do what was asked. */
const forgotten: unknown[] = [400, 404];

/** A server that is asked, whatever becomes of the connection: one that was lost is made again at the next request. */
export class McpConnection {
  readonly #server: string;
  readonly #options: McpServerOptions;
  readonly #timeoutMs: number;
  #link: Link | undefined;
  #closed = false;

  constructor(server: string, options: McpServerOptions) {
    this.#server = server;
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 60_000;
  }

  /**
   * What the server says that it has.
   * @throws {McpConnectionError} it can't be reached
   */
  async capabilities(signal?: AbortSignal): Promise<ServerCapabilities> {
    const client = await this.#connected(this.#current(), signal);
    return client.getServerCapabilities() ?? {};
  }

  /**
   * Asks the server, and tells it when the answer is no longer wanted.
   * @throws {McpConnectionError} there is no answer
   * @throws the error that the server answers with
   */
  async request<Schema extends AnySchema>(
    request: ClientRequest,
    schema: Schema,
    signal?: AbortSignal,
  ): Promise<SchemaOutput<Schema>> {
    const before = this.#link;
    const link = this.#current();
    try {
      return await this.#ask(link, request, schema, signal);
    } catch (error) {
      if (link !== before || !(error instanceof McpConnectionError) || !wasNotTaken(error.cause)) throw error;
      return this.#ask(this.#current(), request, schema, signal);
    }
  }

  /** Ends the connection, and with it what waits for an answer. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#link?.end('the connection was closed');
  }

  #current(): Link {
    if (this.#closed) throw this.#error('the connection was closed');
    if (!this.#link || this.#link.lost !== undefined) this.#link = new Link(this.#options, this.#timeoutMs);
    return this.#link;
  }

  /** Others may wait for the same link: an abort ends only the waiting. */
  async #connected(link: Link, signal: AbortSignal | undefined): Promise<Client> {
    if (signal?.aborted) throw abortError(signal.reason);
    const never = new AbortController().signal;
    try {
      return await unlessIgnored(link.client, signal ?? never, {
        graceMs: 0,
        giveUp: () => abortError(signal?.reason),
      });
    } catch (error) {
      if (signal?.aborted) throw abortError(signal.reason);
      if (error instanceof BerthError) throw error; // the sandbox can't do it, or is gone
      throw this.#error(link.lost ?? messageOf(error), link, error);
    }
  }

  async #ask<Schema extends AnySchema>(
    link: Link,
    request: ClientRequest,
    schema: Schema,
    signal: AbortSignal | undefined,
  ): Promise<SchemaOutput<Schema>> {
    const client = await this.#connected(link, signal);
    const { McpError, ErrorCode } = await import('@modelcontextprotocol/sdk/types.js');
    const { resetTimeoutOnProgress = false } = this.#options;
    const stop = new LinkedAbort(signal); // the SDK never lets go of the signal that it gets
    try {
      return await client.request(request, schema, {
        timeout: this.#timeoutMs,
        signal: stop.signal,
        ...(resetTimeoutOnProgress && { resetTimeoutOnProgress, onprogress: () => {} }),
      });
    } catch (error) {
      if (signal?.aborted) throw abortError(signal.reason);
      if (link.lost !== undefined) throw this.#error(link.lost, link, error);
      if (error instanceof McpError) {
        if (error.code === ErrorCode.ConnectionClosed) throw this.#error(error.message, link, error);
        if (error.code !== ErrorCode.RequestTimeout) throw error;
        const reason = `it did not answer ${request.method} within ${this.#timeoutMs} ms, and was told to stop`;
        throw this.#error(reason, link, error);
      }
      if (error instanceof Error && error.name === 'ZodError') {
        throw this.#error(`its answer to ${request.method} is not what MCP allows`, link, error);
      }
      // It could not be sent: nothing more can be, this way.
      void link.end(messageOf(error));
      throw this.#error(messageOf(error), link, error);
    } finally {
      stop.release();
    }
  }

  #error(reason: string, link?: Link, cause?: unknown): McpConnectionError {
    const hint = link?.errorOutput && `Its standard error ends with: ${link.errorOutput}`;
    return new McpConnectionError({ server: this.#server, reason }, { cause, ...(hint && { hint }) });
  }
}

/** Of `fetch` only the cause says what went wrong. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${messageOf(error.cause)}` : error.message;
}

/** Whether a request did not reach anyone who could have done what it asks for. */
function wasNotTaken(error: unknown): boolean {
  const { name, code, cause } = Object(error) as { name?: unknown; code?: unknown; cause?: { code?: unknown } };
  return cause?.code === 'ECONNREFUSED' || (name === 'Error' && forgotten.includes(code));
}
