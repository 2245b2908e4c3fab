import { BerthError } from '../../errors.ts';

const longestReason = 500;

/**
 * An MCP server can't be reached, does not answer as the protocol says, or was lost; `reason` says how. What was made
 * for the connection is ended, and the next call of a tool makes it again.
 */
export class McpConnectionError extends BerthError<{ server: string; reason: string }> {
  static {
    McpConnectionError.prototype.name = 'McpConnectionError';
  }
  readonly code = 'mcp_connection';
  override readonly status = 502;
  constructor(meta: { server: string; reason: string }, options?: ErrorOptions & { hint?: string }) {
    const reason = oneLine(meta.reason);
    super(`The MCP server ${meta.server}: ${reason}.`, { ...meta, reason }, options);
  }
}

/** A server may have written it. */
function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').slice(0, longestReason);
}
