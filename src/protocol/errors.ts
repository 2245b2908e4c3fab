import { BerthError } from '../errors.ts';
import type { ResetReason } from './frame.ts';

/** The bytes that came over the wire are no frames or messages of this protocol; the connection can't go on. */
export class WireProtocolError extends BerthError<{ reason: string }> {
  static {
    WireProtocolError.prototype.name = 'WireProtocolError';
  }
  readonly code = 'wire_protocol';
  constructor(reason: string, options?: ErrorOptions) {
    super(`The other side of the wire broke the protocol: ${reason}. The connection was closed.`, { reason }, options);
  }
}

/** Host and sandbox-agent speak no common version of the protocol. */
export class WireVersionError extends BerthError<{ host: number; agent: number; agentVersion: string }> {
  static {
    WireVersionError.prototype.name = 'WireVersionError';
  }
  readonly code = 'wire_version';
  constructor(meta: { host: number; agent: number; agentVersion: string }) {
    super(
      `The sandbox was made by Berth ${meta.agentVersion}, which speaks version ${meta.agent} of the wire; this host ` +
        `speaks version ${meta.host}. Use that version of Berth for it, or make a new sandbox.`,
      meta,
    );
  }
}

/** The sandbox-agent did not take this host's signature: the sandbox belongs to another state directory. */
export class WireAuthenticationError extends BerthError<{ sandboxId: string }> {
  static {
    WireAuthenticationError.prototype.name = 'WireAuthenticationError';
  }
  readonly code = 'wire_authentication';
  constructor(meta: { sandboxId: string }) {
    super(
      `Sandbox ${meta.sandboxId} refused this host: it was made with another state directory. Set BERTH_STATE_DIR to that one.`,
      meta,
    );
  }
}

/** A stream of the wire ended before its end: the other side gave it up, or the connection broke. */
export class WireStreamError extends BerthError<{ reason: ResetReason | 'closed' }> {
  static {
    WireStreamError.prototype.name = 'WireStreamError';
  }
  readonly code = 'wire_stream';
  constructor(reason: ResetReason | 'closed', options?: ErrorOptions) {
    const text = {
      reset: 'the sender gave it up',
      cancelled: 'the receiver wants no more',
      gone: 'what comes next is no longer there',
      closed: 'the connection was closed',
    };
    super(`The stream ended early: ${text[reason]}.`, { reason }, options);
  }
}
