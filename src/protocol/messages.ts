import * as v from 'valibot';
import { assign } from './assign.ts';
import { fsChanges, fsCheckpoint, fsDropCheckpoint, fsLand, fsLanded, fsRollback } from './checkpoint.ts';
import { WireProtocolError } from './errors.ts';
import { encodeFrame, FrameDecoder } from './frame.ts';
import {
  fsChmod,
  fsCopy,
  fsFound,
  fsGlob,
  fsGrep,
  fsMkdir,
  fsPack,
  fsRead,
  fsReaddir,
  fsReadlink,
  fsRealpath,
  fsRename,
  fsRm,
  fsStat,
  fsStatAnswer,
  fsSymlink,
  fsTarget,
  fsTruncate,
  fsUnpack,
  fsWatch,
  fsWatching,
  fsWrite,
} from './fs.ts';
import { authenticate, hello, refused, resumed, unknownConnection, welcome } from './handshake.ts';
import { frameHeaderBytes, limits } from './limits.ts';
import {
  networkAccept,
  networkAccepted,
  networkConnect,
  networkListening,
  networkPorts,
  networkServe,
  networkStop,
} from './network.ts';
import {
  memoryKills,
  memoryWatch,
  processAttach,
  processExited,
  processKill,
  processList,
  processStart,
  processStarted,
} from './process.ts';
import { ptyAttach, ptyOpen, ptyResize } from './pty.ts';
import { cancel, ping, sessionClose, sessionOpen, shutdown } from './session.ts';
import { errorText, name, requestId } from './values.ts';

/** Sandbox-agent → host: the request was carried out. */
const ok = v.strictObject({ type: v.literal('ok'), requestId });

/**
 * Sandbox-agent → host: the request failed, and left nothing behind unless its message says so. `code` is a POSIX name
 * (`ENOENT`) or one of ours in lower case (`unknown_process`).
 */
const error = v.strictObject({
  type: v.literal('error'),
  requestId,
  code: name,
  message: errorText,
  /** Of an archive: the name of the entry at which it failed. */
  entry: v.optional(errorText),
});

const request = v.variant('type', [
  ping,
  cancel,
  shutdown,
  assign,
  sessionOpen,
  sessionClose,
  processStart,
  processAttach,
  processKill,
  processList,
  memoryWatch,
  ptyOpen,
  ptyAttach,
  ptyResize,
  networkServe,
  networkStop,
  networkAccept,
  networkConnect,
  networkPorts,
  fsStat,
  fsRead,
  fsWrite,
  fsReaddir,
  fsMkdir,
  fsRm,
  fsRename,
  fsCopy,
  fsSymlink,
  fsReadlink,
  fsRealpath,
  fsChmod,
  fsTruncate,
  fsGlob,
  fsGrep,
  fsWatch,
  fsUnpack,
  fsPack,
  fsCheckpoint,
  fsRollback,
  fsChanges,
  fsLand,
  fsDropCheckpoint,
]);
/** Host → sandbox-agent, after the handshake. */
export type Request = v.InferOutput<typeof request>;

/** Whether it is one of `limits.requests`. Those with streams have the limit of these; others are answered at once. */
export function isLimited(request: Omit<Request, 'requestId'>): boolean {
  const { type } = request;
  if (type === 'ping' || type === 'cancel' || type === 'shutdown') return false;
  return !['stream', 'stdin', 'stdout', 'stderr', 'output'].some((name) => name in request);
}

const answer = v.variant('type', [
  ok,
  error,
  processStarted,
  processExited,
  memoryKills,
  networkAccepted,
  networkListening,
  fsStatAnswer,
  fsTarget,
  fsFound,
  fsWatching,
  fsLanded,
]);
/** Sandbox-agent → host, after the handshake. */
export type Answer = v.InferOutput<typeof answer>;

export type HostMessage = v.InferOutput<typeof authenticate> | Request;
export type AgentMessage =
  | v.InferOutput<typeof hello>
  | v.InferOutput<typeof welcome>
  | v.InferOutput<typeof refused>
  | v.InferOutput<typeof resumed>
  | v.InferOutput<typeof unknownConnection>
  | Answer;

/** The parsers are the only way in: what is behind them does not check again. All throw `WireProtocolError`. */
export const parseRequest = parser(request);
export const parseAnswer = parser(answer);
export const parseHello = parser(hello);
export const parseAuthenticate = parser(authenticate);
export const parseWelcome = parser(v.variant('type', [welcome, refused]));
export const parseResumed = parser(v.variant('type', [resumed, unknownConnection, refused]));

const decoder = new TextDecoder('utf-8', { fatal: true });

export function encodeMessage(message: HostMessage | AgentMessage): Uint8Array {
  return Buffer.from(JSON.stringify(message));
}

/** A message of the handshake: one frame, in a WebSocket message of its own, that no connection counts. */
export function encodeHandshake(message: HostMessage | AgentMessage): Uint8Array {
  return Buffer.concat(encodeFrame({ kind: 'message', payload: encodeMessage(message) }));
}

/** Puts the messages of the handshake together: a WebSocket message each. */
export class HandshakeReader {
  #bytes = Buffer.alloc(0);

  /** @returns what a parser takes, when that was the last piece of it. @throws {WireProtocolError} */
  take(piece: Uint8Array, isLast: boolean): Uint8Array | undefined {
    this.#bytes = Buffer.concat([this.#bytes, piece]);
    if (this.#bytes.length > limits.handshakeMessage + frameHeaderBytes) {
      throw new WireProtocolError('a handshake that is too large');
    }
    if (!isLast) return undefined;
    const decoder = new FrameDecoder();
    const [frame, more] = decoder.push(this.#bytes);
    decoder.end();
    if (frame?.kind !== 'message' || more) throw new WireProtocolError('a handshake that is not one message');
    this.#bytes = Buffer.alloc(0);
    return frame.payload;
  }
}

/** A parser of JSON text (a message, or a line of a record stream) that fits `schema`. */
export function parser<Schema extends v.GenericSchema>(schema: Schema): (bytes: Uint8Array) => v.InferOutput<Schema> {
  return (bytes) => {
    let value: unknown;
    try {
      value = JSON.parse(decoder.decode(bytes));
    } catch (cause) {
      throw new WireProtocolError('a message that is no JSON in UTF-8', { cause });
    }
    const result = v.safeParse(schema, value, { abortEarly: true, abortPipeEarly: true });
    if (result.success) return result.output;
    const [issue] = result.issues;
    // Neither the value nor an unknown key is repeated: both are the other side's text.
    throw new WireProtocolError(`a message of the wrong form (${issue.type}, expected ${issue.expected ?? 'other'})`);
  };
}
