import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { JSONRPCMessage, JSONRPCMessageSchema } from '@modelcontextprotocol/sdk/types.js';
import { NewestOutput } from '../../sandbox/process/newest-output.ts';
import { SandboxOperationUnsupportedError } from '../errors.ts';
import type { SandboxProcess } from '../sandbox/env.ts';
import { maxMessageBytes } from './message-size.ts';
import type { StdioMcpOptions } from './options.ts';

const maxUnreadBytes = 16 * 1024 * 1024;
const maxOtherLines = 1_000;
const keptErrorBytes = 4 * 1024;
const turnMs = 20;
const graceMs = 1_000;

/**
 * A server that is a process of a sandbox: a message is a line of its standard input or output. Nothing that it does can
 * be trusted: what it may keep waiting here, or have kept here, has a limit, and more than that ends it.
 */
export class StdioTransport implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  readonly #options: StdioMcpOptions;
  readonly #errors = new NewestOutput(keptErrorBytes);
  #process: SandboxProcess | undefined;
  /** That were read. */
  #lines = 0;
  #closing: Promise<void> | undefined;

  constructor(options: StdioMcpOptions) {
    this.#options = options;
  }

  /** What it wrote to standard error last. */
  get errorOutput(): string {
    return this.#errors.text().trim();
  }

  async start(): Promise<void> {
    const { sandbox, command, cwd, env } = this.#options;
    if (!sandbox.spawn) throw new SandboxOperationUnsupportedError({ operation: 'spawn' });
    const { JSONRPCMessageSchema } = await import('@modelcontextprotocol/sdk/types.js');
    const started = await sandbox.spawn(command, { ...(cwd !== undefined && { cwd }), ...(env && { env }) });
    if (this.#closing) return started[Symbol.asyncDispose]();
    this.#process = started;
    started.stderr.on('data', (chunk: Uint8Array) => this.#errors.add(chunk));
    const read = this.#read(started, JSONRPCMessageSchema); // at once: waiting for it reads what nobody reads, to no use
    // What it said last is still to be read then. What it has left running may keep its output open, and say nothing.
    const failWhenRead = async (reason: string) => {
      for (let before = -1; before !== this.#lines; ) {
        before = this.#lines;
        const isRead = await Promise.race([read.then(() => true), sleep(graceMs, false, { ref: false })]);
        if (isRead) break;
        await immediate(); // also when the host was too busy to read in time
      }
      this.#fail(reason);
    };
    started.stdin.on('error', ({ message }) => void failWhenRead(message));
    for (const stream of [started.stdout, started.stderr]) stream.on('error', ({ message }) => this.#fail(message));
    void read.then(() => sleep(graceMs)).then(() => this.#fail('it closed its output')); // how it ended says more
    started.wait().then(
      ({ exitCode, signal }) => failWhenRead(`it ended (${signal ?? `exit code ${exitCode}`})`),
      (error: unknown) => this.#fail(String(error)),
    );
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const stdin = this.#process?.stdin;
    if (!stdin || this.#closing) throw new Error('it has ended');
    if (stdin.writableLength > maxUnreadBytes) {
      this.#fail(`it left more than ${maxUnreadBytes} bytes of requests unread`);
      return;
    }
    stdin.write(`${JSON.stringify(message)}\n`);
  }

  /** Ends its input, which is how a server is asked to end, and soon all of it. */
  close(): Promise<void> {
    this.#closing ??= this.#end(graceMs);
    return this.#closing;
  }

  async #end(patienceMs: number): Promise<void> {
    this.onclose?.();
    const running = this.#process;
    if (!running) return;
    if (patienceMs > 0) {
      running.stdin.end();
      const patience = new AbortController();
      const tooLong = sleep(patienceMs, undefined, { signal: patience.signal });
      await Promise.race([running.wait(), tooLong]).catch(() => {}); // it is ended in any case
      patience.abort();
    }
    await running[Symbol.asyncDispose]();
  }

  #fail(reason: string): void {
    if (this.#closing) return;
    this.onerror?.(new Error(reason));
    this.#closing = this.#end(0);
    this.#closing.catch(() => {}); // who closes it is told
  }

  async #read(running: SandboxProcess, schema: typeof JSONRPCMessageSchema): Promise<void> {
    let others = 0;
    let turnEnds = performance.now() + turnMs;
    try {
      for await (const line of lines(running.stdout)) {
        if (this.#closing) return;
        this.#lines++;
        const message = schema.safeParse(parsed(line));
        if (message.success) this.onmessage?.(message.data);
        else if (++others > maxOtherLines) throw new Error(`it wrote ${others} lines that are no messages`);
        if (performance.now() < turnEnds) continue;
        await immediate(); // a piece of output may hold thousands of lines
        turnEnds = performance.now() + turnMs;
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
  }
}

async function* lines(output: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let line = new NewestOutput(maxMessageBytes);
  for await (const chunk of output) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      line.add(chunk.subarray(start, end));
      start = end + 1;
      if (line.truncated) break;
      yield line.text();
      line = new NewestOutput(maxMessageBytes);
    }
    line.add(chunk.subarray(start));
    if (line.truncated) throw new Error(`it wrote a line of more than ${maxMessageBytes} bytes`);
  }
}

/** Servers also write to standard output what is meant for people. */
function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
