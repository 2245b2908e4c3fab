import { OutputGoneError, type ProcessInfo, type Sandbox } from '../../../sandbox/index.ts';
import { UsageError } from '../../errors.ts';
import { withHost } from '../../host.ts';
import { brokenPipe, isOutputLost, printJson } from '../../output.ts';
import { HarmlessStream, harmlessLine } from '../../print/harmless.ts';
import { write } from './exec.ts';

interface Options {
  follow?: boolean;
  json?: boolean;
}

/** Takes one output of a process, and is told of what is no longer kept of it. */
interface Printer {
  chunk: (chunk: Uint8Array) => Promise<void>;
  gap: (from: number, to: number) => Promise<void>;
  end: () => Promise<void>;
}

/** Prints the kept output of one process, or of all, each to the stream that it was written to. */
export async function logs(id: string, processId: string | undefined, options: Options): Promise<number> {
  const { follow = false, json = false } = options;
  if (follow && processId === undefined) {
    throw new UsageError(`--follow is for one process. List them with: berth sandbox ps ${id} --all`);
  }
  return withHost(async (host) => {
    const sandbox = await host.connect(id);
    // What is not there is told by this, in the words of the sandbox.
    if (processId !== undefined) await sandbox.attach(processId);
    const all = await sandbox.processes({ all: true });
    try {
      for (const one of processId === undefined ? all : all.filter((found) => found.id === processId)) {
        if (processId === undefined && !json) {
          await write(process.stdout, `==> ${one.id} ${harmlessLine(one.command.join(' ')).slice(0, 80)} <==\n`);
        }
        await Promise.all(
          (['stdout', 'stderr'] as const).map((name) => {
            const printer = json ? jsonPrinter(one.id, name) : plainPrinter(process[name]);
            return copyOutput(sandbox, one, name, follow, printer);
          }),
        );
        if (json) printJson({ process: one.id, state: one.state, ...(one.end && { end: one.end }) });
      }
      return 0;
    } catch (error) {
      if (isOutputLost()) return brokenPipe;
      throw error;
    }
  });
}

/** Copies what there is, or with `follow` all that comes; what is no longer kept is passed over, and told. */
async function copyOutput(
  sandbox: Sandbox,
  one: ProcessInfo,
  name: 'stdout' | 'stderr',
  follow: boolean,
  printer: Printer,
): Promise<void> {
  const until = follow ? Number.POSITIVE_INFINITY : one[name].bytes;
  let { gaps } = one[name];
  for (let at = 0; at < until; ) {
    const gap = gaps.find(([from, to]) => at >= from && at < to);
    if (gap) {
      await printer.gap(at, gap[1]);
      at = gap[1];
    }
    const attached = await sandbox.attach(one.id, { [name]: at, maxOutput: 0 });
    attached[name === 'stdout' ? 'stderr' : 'stdout'].destroy();
    try {
      for await (const chunk of attached[name]) {
        const piece = chunk.subarray(0, until - at);
        await printer.chunk(piece);
        at += piece.length;
        if (at >= until) break;
      }
      break;
    } catch (error) {
      if (!(error instanceof OutputGoneError)) throw error;
      const now = (await sandbox.processes({ all: true })).find(({ id }) => id === one.id);
      gaps = now?.[name].gaps ?? [];
      if (!gaps.some(([from, to]) => at >= from && at < to)) throw error;
    }
  }
  await printer.end();
}

function plainPrinter(to: NodeJS.WriteStream): Printer {
  const harmless = to.isTTY ? new HarmlessStream() : undefined;
  return {
    chunk: (chunk) => write(to, harmless ? harmless.push(chunk) : chunk),
    gap: (from, until) => write(process.stderr, `[${until - from} bytes are no longer kept]\n`),
    end: () => write(to, harmless?.end() ?? ''),
  };
}

function jsonPrinter(id: string, output: 'stdout' | 'stderr'): Printer {
  // A character may be cut between two chunks.
  const decoder = new TextDecoder();
  const print = (value: object) => write(process.stdout, `${JSON.stringify({ process: id, output, ...value })}\n`);
  const printText = async (text: string) => {
    if (text !== '') await print({ text });
  };
  return {
    chunk: (chunk) => printText(decoder.decode(chunk, { stream: true })),
    gap: (from, to) => print({ gap: [from, to] }),
    end: () => printText(decoder.decode()),
  };
}
