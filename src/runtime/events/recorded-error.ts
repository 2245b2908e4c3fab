import { abortError, BerthError, restoreError } from '../../errors.ts';
import type { RecordedError } from './event.ts';

/** An error as events and records hold it: without stack and cause. */
export function recordedError(error: unknown): RecordedError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  if (error instanceof BerthError) {
    const { name, code, message, details, meta } = error;
    return { name, code, message, details, ...(meta !== undefined && { meta }) };
  }
  return { name: error.name, message: error.message };
}

/** The error that was recorded: of its class where that is one of ours, else an `Error` of its name and text. */
export function restoredError(recorded: RecordedError): Error {
  const { name, message } = recorded;
  if (name === 'AbortError') return abortError(undefined, message);
  const restored = restoreError(recorded);
  return restored ?? Object.defineProperty(new Error(message), 'name', { value: name, configurable: true });
}
