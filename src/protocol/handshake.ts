import * as v from 'valibot';
import { absolutePath, byteCount, name, uint32, user } from './values.ts';

/**
 * The version of the wire. It changes with everything that an older side would misread; host and sandbox-agent work
 * together only when they have the same.
 */
export const protocolVersion = 2;

/** Of a connection, through all breaks. Nobody but its host knows it. */
const connectionId = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));

const nonce = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));

/**
 * Sandbox-agent → host, the first message. `nonce` is new for each connection. The version stands beside `type`, and
 * unknown keys are let through here only, so that any version can say that it is another one.
 */
export const hello = v.looseObject({
  type: v.literal('hello'),
  protocol: v.pipe(v.number(), v.integer(), v.minValue(0)),
  agentVersion: v.pipe(v.string(), v.maxBytes(64)),
  nonce,
});

/**
 * Host → sandbox-agent. `signature` is Ed25519 over `signedText`, by the host's private key; the sandbox holds the
 * public one only, so that nothing inside it, read or stolen, lets anyone pose as the host.
 */
export const authenticate = v.strictObject({
  type: v.literal('authenticate'),
  protocol: v.literal(protocolVersion),
  signature: v.pipe(v.string(), v.regex(/^[0-9a-f]{128}$/)),
  /** Goes on with a connection that broke, whose frames the host has up to this number. Left out: a new one. */
  resume: v.optional(v.strictObject({ connection: connectionId, received: byteCount })),
});

export type Authenticate = v.InferOutput<typeof authenticate>;

/** Sandbox-agent → host: the connection is open. What it says of the sandbox is for relative paths and for people. */
export const welcome = v.strictObject({
  type: v.literal('welcome'),
  connection: connectionId,
  /** New with each start of the sandbox-agent: tells a restart from a lost connection. */
  boot: name,
  user,
  uid: uint32,
  gid: uint32,
  home: absolutePath,
  cwd: absolutePath,
});
export type Welcome = v.InferOutput<typeof welcome>;

/** Sandbox-agent → host: the connection goes on. Both sides send again what the other does not have, in order. */
export const resumed = v.strictObject({ type: v.literal('resumed'), received: byteCount });

/** Sandbox-agent → host in place of `resumed`: it was broken for too long, or the sandbox-agent is another one. */
export const unknownConnection = v.strictObject({ type: v.literal('unknown_connection'), boot: name });

/**
 * How long a connection that broke can be resumed: a restart of the engine, whose stream the wire may run over, takes
 * seconds, on a busy machine tens of them. Until then what it was doing is held open for it.
 */
export const resumeMs = 60_000;

/** What the host closes the WebSocket with when it wants the connection no more, so that nothing is held open for it. */
export const closedCode = 1000;

/** Sandbox-agent → host in place of `welcome` or `resumed`: the signature is not that of the host which made the sandbox. */
export const refused = v.strictObject({ type: v.literal('refused') });

/** What the host signs: bound to this protocol, this sandbox and this connection, so that it proves nothing elsewhere. */
export function signedText(sandboxId: string, connectionNonce: string): string {
  return `berth wire ${protocolVersion}\n${sandboxId}\n${connectionNonce}`;
}
