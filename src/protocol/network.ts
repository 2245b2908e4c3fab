import * as v from 'valibot';
import { limits } from './limits.ts';
import { environment, requestId, streamId, timeoutMs } from './values.ts';

export const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));

/** Where the proxy of a sandbox listens, on its loopback: what is asked of it is answered by the host. */
export const proxyPort = 3_128;

/** What trusts the host's authority, in the sandbox. Any user of it can read these, and root alone can change them. */
export const authorityFiles = {
  directory: '/etc/berth',
  /** The certificate alone. */
  own: '/etc/berth/authority.pem',
  /** It, and those that the image trusts. */
  bundle: '/etc/berth/certificates.pem',
  /** The same for Java. */
  javaStore: '/etc/berth/certificates.jks',
} as const;

/** A certificate in PEM, and the hash of its subject by which OpenSSL looks for it. */
const authority = v.strictObject({
  certificate: v.pipe(v.string(), v.maxLength(16_384), v.startsWith('-----BEGIN CERTIFICATE-----')),
  hash: v.pipe(v.string(), v.regex(/^[0-9a-f]{8}$/)),
});

/** As it stands in a rule: in lower case and ASCII; `*.` in front stands for any names below it, `*` for all. */
const namePattern = v.pipe(v.string(), v.maxLength(253), v.regex(/^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$/));

/**
 * Host → sandbox-agent. From now on programs reach the network through this connection: a proxy listens, and names that fit
 * a pattern resolve to addresses of the loopback, where the sandbox-agent listens at these ports. What connects is handed
 * over by `network.accept`. Of several connections that serve it is the first whose transport is there; when that ends, or
 * stops, the next one goes on. Answer: `ok`.
 */
export const networkServe = v.strictObject({
  type: v.literal('network.serve'),
  requestId,
  /** It becomes the first. Else it keeps its place, and a new one is the last. */
  takesOver: v.boolean(),
  /** Of every command that starts from now on, below all others. */
  env: environment,
  /** Of whom servers are signed by whose requests are looked into: it is trusted, in the files of `authorityFiles`. */
  authority: v.optional(authority),
  names: v.pipe(
    v.array(
      v.strictObject({
        pattern: namePattern,
        ports: v.pipe(v.array(port), v.maxLength(limits.networkPorts)),
      }),
    ),
    v.maxLength(limits.networkNames),
  ),
});
export type NetworkServe = v.InferOutput<typeof networkServe>;

/**
 * Host → sandbox-agent. This connection does not serve any more. Where no other one does, nobody reaches the network, and no
 * variables say that there is one. Answer: `ok`.
 */
export const networkStop = v.strictObject({ type: v.literal('network.stop'), requestId });

/**
 * Host → sandbox-agent. Waits for a program that connects. Answer: `network.accepted`; from then on `stream`, both ways,
 * is that connection. Where it may not be, or can't, the host resets it.
 */
export const networkAccept = v.strictObject({ type: v.literal('network.accept'), requestId, stream: streamId });

/** Sandbox-agent → host. `to` is left out where it was the proxy that was connected to. */
export const networkAccepted = v.strictObject({
  type: v.literal('network.accepted'),
  requestId,
  to: v.optional(v.strictObject({ name: v.pipe(v.string(), v.maxLength(253)), port })),
});

/** Host → sandbox-agent. Connects to a server that listens inside. Answer: `ok` when it is connected, else an error. */
export const networkConnect = v.strictObject({ type: v.literal('network.connect'), requestId, port, stream: streamId });

/**
 * Host → sandbox-agent. Asks which ports servers listen at. Answer: `network.listening`, at once, or with `known`, in their
 * order, as soon as it is others that are listened at, at the latest after `waitMs`.
 */
export const networkPorts = v.strictObject({
  type: v.literal('network.ports'),
  requestId,
  known: v.optional(v.pipe(v.array(port), v.maxLength(limits.listeningPorts))),
  waitMs: timeoutMs,
});
export type NetworkPorts = v.InferOutput<typeof networkPorts>;

/** The address that a server is bound to; one that listens at several has the first of these. */
const listeningPort = v.strictObject({ port, address: v.picklist(['127.0.0.1', '0.0.0.0', '::1', '::']) });
export type ListeningPort = v.InferOutput<typeof listeningPort>;

/** Sandbox-agent → host. Where `network.connect` reaches a server, in the order of the ports, each of them once. */
export const networkListening = v.strictObject({
  type: v.literal('network.listening'),
  requestId,
  ports: v.pipe(
    v.array(listeningPort),
    v.maxLength(limits.listeningPorts),
    v.check((ports) => ports.every(({ port }, i) => i === 0 || port > (ports[i - 1]?.port ?? 0)), 'out of order'),
  ),
});
