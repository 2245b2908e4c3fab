import { type Logger, stdSerializers } from 'pino';
import type { Emit } from './event.ts';
import { frozenCopy } from './frozen-copy.ts';
import type { Masker } from './masker.ts';

/**
 * Writes `log` events. Attributes may be anything; what JSON can't hold is written as text, an error with its stack. More
 * than 64 KiB of them are left out; a message is cut at 65,536 characters.
 */
export interface Log {
  /** For who wants to know how it goes. */
  info(message: string, attributes?: Record<string, unknown>): void;
  /** Something is not as it should be, and the work goes on. */
  warn(message: string, attributes?: Record<string, unknown>): void;
  /** Something failed. To end the work, throw. */
  error(message: string, attributes?: Record<string, unknown>): void;
}

/** A log that writes to a logger, with secrets masked. What holds none is written as the logger writes it. */
export function loggerLog(logger: Logger, masker: Masker): Log {
  const write =
    (level: 'info' | 'warn' | 'error') =>
    (message: string, attributes: Record<string, unknown> = {}) => {
      const shown = Object.entries(attributes).map(([name, value]) => [
        name,
        value instanceof Error ? stdSerializers.err(value) : value, // with its code, and the texts of its causes
      ]);
      const json = JSON.stringify(frozenCopy(Object.fromEntries(shown)));
      const masked = masker.json(json);
      logger[level](masked === json ? attributes : JSON.parse(masked), masker.text(message));
    };
  return { info: write('info'), warn: write('warn'), error: write('error') };
}

const maxBytes = 64 * 1024;

/** A log that writes events, each with `added` among its attributes. */
export function eventLog(emit: Emit, added: Record<string, unknown> = {}): Log {
  const write = (level: 'info' | 'warn' | 'error') => (message: string, attributes?: Record<string, unknown>) => {
    const all = { ...cut(frozenCopy(attributes, { stacks: true })), ...added };
    const text = cutText(typeof message === 'string' ? message : JSON.stringify(frozenCopy(message)));
    emit({ type: 'log', level, message: text, ...(Object.keys(all).length > 0 && { attributes: all }) });
  };
  return { info: write('info'), warn: write('warn'), error: write('error') };
}

function cut(attributes: unknown): Record<string, unknown> {
  if (attributes === null) return {};
  const sizeBytes = Buffer.byteLength(JSON.stringify(attributes));
  if (sizeBytes > maxBytes) return { omitted: `${sizeBytes} bytes of attributes; a log event holds ${maxBytes}` };
  if (typeof attributes === 'object') return attributes as Record<string, unknown>; // a copy made of JSON
  return { value: attributes };
}

function cutText(message: string): string {
  return message.length > maxBytes ? `${message.slice(0, maxBytes)} …` : message;
}
