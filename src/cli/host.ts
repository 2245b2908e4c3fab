import { SandboxHost } from '../sandbox/index.ts';
import { UsageError } from './errors.ts';

/** Does something with the host of this state directory. */
export async function withHost<Result>(work: (host: SandboxHost) => Promise<Result>): Promise<Result> {
  const host = await SandboxHost.open();
  try {
    return await work(host);
  } finally {
    await host.close();
  }
}

/** `['A=1', 'B=']` as a record. */
export function pairs(option: string, texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=');
      if (at < 1) throw new UsageError(`${option} takes NAME=VALUE, not ${JSON.stringify(text)}.`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}
