import { BerthError } from '../../errors.ts';
import { EngineError } from '../errors.ts';
import { engineCommands, readSystem } from '../remedy.ts';
import { type EngineAttempt, EngineUnreachableError } from '../socket.ts';

/** The HTTP status of an answer of the engine that dockerode made an error of. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;
}

/** The engine's own words. */
export function reasonOf(error: unknown): string {
  if (error instanceof Error && 'json' in error) {
    const { json } = error;
    if (typeof json === 'object' && json !== null && 'message' in json) return String(json.message).trim();
  }
  return error instanceof Error ? error.message.trim() : String(error);
}

/** What a container printed comes in pieces with a header each, as in an exec stream; for people, the text in them is enough. */
export function withoutHeaders(log: Buffer): string {
  return log.toString().replace(/[\x01\x02]\0\0\0[\s\S]{4}/g, '');
}

/** Makes an error of ours of what dockerode threw. `operation` is what was tried, as in `make a container`. */
export async function engineFailure(error: unknown, operation: string, url: string): Promise<Error> {
  if (error instanceof BerthError) return error;
  const engineStatus = statusOf(error);
  const reason = engineStatus === undefined ? unreachable(error) : undefined;
  if (reason) {
    const tried = [{ url, source: 'in use', reason, detail: reasonOf(error) }];
    return new EngineUnreachableError({ tried, commands: engineCommands(tried, await readSystem()) }, { cause: error });
  }
  return new EngineError(
    { operation, reason: reasonOf(error), ...(engineStatus !== undefined && { engineStatus }) },
    { cause: error },
  );
}

function unreachable(error: unknown): EngineAttempt['reason'] | undefined {
  switch (error instanceof Error && 'code' in error ? error.code : undefined) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'absent';
    case 'EACCES':
    case 'EPERM':
      return 'forbidden';
    case 'ECONNREFUSED':
      return 'refused';
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'failed';
    default:
      return undefined;
  }
}
