import {
  FileError,
  ProcessKeyConflictError,
  ProcessLimitError,
  SandboxRequestError,
  UnsafeEntryError,
} from './errors.ts';
import { AnswerError, streamFailure } from './wire.ts';

/** What a request that failed means to its caller. `about`: the file that it was about. Left out: the sandbox-agent may say it. */
export function requestError(error: unknown, operation: string, about?: string): unknown {
  const cause = streamFailure(error);
  if (!(cause instanceof AnswerError)) return cause;
  const { code, message } = cause;
  const path = about ?? cause.entry;
  if (code === 'process_limit') return new ProcessLimitError({ operation }, { cause });
  if (code === 'key_conflict') return new ProcessKeyConflictError({ reason: message }, { cause });
  if (code === 'unsafe_entry') return new UnsafeEntryError({ entry: cause.entry ?? path ?? '', reason: message });
  if (path !== undefined && /^E[A-Z0-9]+$/.test(code)) {
    return new FileError({ code, path, operation, detail: message }, { cause });
  }
  return new SandboxRequestError({ operation, reason: code, detail: message }, { cause });
}
