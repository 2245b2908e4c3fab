import * as v from 'valibot';
import { absolutePath, name, uint32, user } from './values.ts';

/**
 * The version of the wire. It changes with everything that an older side would misread; host and sandbox-agent work
 * together only when they have the same.
 */
export const protocolVersion = 1;

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
});

/** Sandbox-agent → host: the connection is open. What it says of the sandbox is for relative paths and for people. */
export const welcome = v.strictObject({
  type: v.literal('welcome'),
  /** New with each start of the sandbox-agent: tells a restart from a lost connection. */
  boot: name,
  user,
  uid: uint32,
  gid: uint32,
  home: absolutePath,
  cwd: absolutePath,
});
export type Welcome = v.InferOutput<typeof welcome>;

/** Sandbox-agent → host in place of `welcome`: the signature is not that of the host which made the sandbox. */
export const refused = v.strictObject({ type: v.literal('refused') });

/** What the host signs: bound to this protocol, this sandbox and this connection, so that it proves nothing elsewhere. */
export function signedText(sandboxId: string, connectionNonce: string): string {
  return `berth wire ${protocolVersion}\n${sandboxId}\n${connectionNonce}`;
}
