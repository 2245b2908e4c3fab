import { abortError, BerthError, restoreError } from '../../errors.ts';
import type { RecordedError } from './event.ts';

/** An error as events and records hold it: without stack and cause. */
export function recordedError(error: unknown): RecordedError {
  if (error instanceof BerthError) {
    const { name, code, message, details, meta } = error;
    return { name, code, message, details, ...(meta !== undefined && { meta }) };
  }
  try {
    if (error instanceof Error) return { name: String(error.name), message: String(error.message) };
    return { name: 'Error', message: String(error) };
  } catch {
    return { name: 'Error', message: '<not readable>' }; // anything can be thrown, also what no text can be made of
  }
}

/** The error that was recorded: of its class where that is one of ours, else an `Error` of its name and text. */
export function restoredError(recorded: RecordedError): Error {
  const { name, message } = recorded;
  if (name === 'AbortError') return abortError(undefined, message);
  const restored = restoreError(recorded);
  return restored ?? Object.defineProperty(new Error(message), 'name', { value: name, configurable: true });
}
