import { WireProtocolError } from '../../protocol/errors.ts';
import { limits } from '../../protocol/limits.ts';
import { parser } from '../../protocol/messages.ts';
import { listedProcess } from '../../protocol/process.ts';
import { decodeRecords } from '../../protocol/records.ts';
import { requestError } from '../request-error.ts';
import type { Wire } from '../wire.ts';
import type { ExecResult } from './result.ts';

/** What a process wrote to one of its outputs. Bytes. */
export interface KeptOutput {
  /** In all, kept or not. */
  bytes: number;
  /** The parts `[from, to)` that are no longer kept. */
  gaps: [from: number, to: number][];
}

/** A process that runs, or of which the end and the output are kept. */
export interface ProcessInfo {
  /** For `attach`; for `attachPty` when it runs on a terminal. */
  id: string;
  /** Of the session that it was started in; `root` for the sandbox itself. */
  sessionId: string;
  /** Its first arguments, each cut at 256 characters: for people. */
  command: string[];
  /** Inside of the sandbox; 0 when it could not be started. */
  pid: number;
  startedAt: Date;
  /** It runs on one. */
  terminal: boolean;
  /** `lost`: the sandbox died while it ran, so that nobody knows its end. */
  state: 'running' | 'ended' | 'lost';
  /** Of one that has ended. */
  end?: Omit<ExecResult, 'stdout' | 'stderr' | 'truncated'>;
  /** What runs of all that it started, itself among them; at most 1,024. */
  pids: number[];
  /** Of one on a terminal: what came on that. */
  stdout: KeptOutput;
  /** Of one on a terminal: nothing. */
  stderr: KeptOutput;
}

/** What a sandbox may send for one list: a hundred times what it should need. */
const maxBytes = 64 * 1024 * 1024;

const parse = parser(listedProcess);

export async function listProcesses(wire: Wire): Promise<ProcessInfo[]> {
  const stream = wire.openStream({ send: false, receive: true });
  const done = wire.call({ type: 'process.list', stream: stream.id }, 'ok');
  const listed: ProcessInfo[] = [];
  let bytes = 0;
  const take = (line: Uint8Array) => {
    bytes += line.length;
    if (bytes > maxBytes || listed.length === limits.listedProcesses) throw new WireProtocolError('a list without end');
    const { processId, argv, startedAt, end, ...rest } = parse(line);
    listed.push({ ...rest, id: processId, command: argv, startedAt: new Date(startedAt), ...(end && { end }) });
  };
  try {
    for await (const _ of decodeRecords(stream, take));
    await done;
    return listed;
  } catch (error) {
    if (error instanceof WireProtocolError) throw await wire.end(error);
    throw requestError(error, 'list its processes');
  }
}
