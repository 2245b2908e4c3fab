import { readFileSync } from 'node:fs';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { after } from '../after.ts';
import type { McpServerOptions } from './options.ts';
import { remoteTransport } from './remote.ts';
import { StdioTransport } from './stdio.ts';

const { version }: { version: string } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'), // our own file
);

/** One connection to a server, from its beginning to its end. */
export class Link {
  /** There when server and client know each other. */
  readonly client: Promise<Client>;
  /** Why it is no good any more. */
  lost: string | undefined;
  #transport: Transport | undefined;
  #ending: Promise<void> | undefined;

  constructor(options: McpServerOptions, timeoutMs: number) {
    this.client = this.#connect(options, timeoutMs);
    this.client.catch(() => {}); // told to those who wait for it
  }

  /** What a server in a sandbox wrote to standard error last. */
  get errorOutput(): string {
    return this.#transport instanceof StdioTransport ? this.#transport.errorOutput : '';
  }

  end(reason: string): Promise<void> {
    this.lost ??= reason;
    this.#ending ??= this.#transport?.close();
    return this.#ending ?? Promise.resolve();
  }

  async #connect(options: McpServerOptions, timeoutMs: number): Promise<Client> {
    let stopTimer = () => {};
    try {
      const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
      const client = new Client({ name: 'berth', version });
      let latest: Error | undefined;
      client.onerror = (error) => {
        latest = error;
      };
      client.onclose = () => {
        this.lost ??= latest?.message ?? 'the connection was lost';
      };
      const transport =
        'command' in options
          ? new StdioTransport(options)
          : await remoteTransport(options, (reason) => void this.end(reason));
      if (this.lost !== undefined) throw new Error(this.lost);
      this.#transport = transport;
      const tooLate = new Promise<never>((_, reject) => {
        stopTimer = after(timeoutMs, () => reject(new Error(`it could not be reached within ${timeoutMs} ms`)));
      });
      // The SDK waits without end for a server that takes a connection and says nothing.
      await Promise.race([client.connect(transport, { timeout: timeoutMs }), tooLate]);
      return client;
    } catch (error) {
      await this.end(error instanceof Error ? error.message : String(error));
      throw error;
    } finally {
      stopTimer();
    }
  }
}
