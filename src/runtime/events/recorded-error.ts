import { BerthError } from '../../errors.ts';
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
