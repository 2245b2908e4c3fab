import { InvalidOptionsError, SandboxHost } from '../sandbox/index.ts';
import { UsageError } from './errors.ts';

/** Does something with the host of this state directory. */
export async function withHost<Result>(work: (host: SandboxHost) => Promise<Result>): Promise<Result> {
  const host = await SandboxHost.open();
  try {
    return await work(host);
  } catch (error) {
    if (!(error instanceof InvalidOptionsError)) throw error;
    const issues = error.meta.issues.map(({ path, message }) => (path ? `${optionOf(path)}: ${message}` : message));
    throw new UsageError(issues.join('; '), { cause: error });
  } finally {
    await host.close();
  }
}

/**
 * How the command names an option of the library: `limits.memory` is `--memory`, `idleTimeout` is `--idle-timeout`, and
 * `network.allow.0` the first `--allow`.
 */
function optionOf(path: string): string {
  const [, rule] = /^(?:network\.)?allow\.(\d+)$/.exec(path) ?? [];
  if (rule !== undefined) return `--allow (number ${Number(rule) + 1})`;
  const [first = '', second = ''] = path.split('.');
  const name = first === 'limits' ? second : first.replace(/^labels$/, 'label');
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
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
