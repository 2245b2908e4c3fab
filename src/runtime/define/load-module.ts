import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Of files that may be modules. */
export const moduleExtensions = ['.ts', '.mts', '.js', '.mjs'];

/**
 * Loads a file of a project; TypeScript as far as Node takes it.
 * @throws {Error} it can't be loaded: its text is why, and comes behind the name of the file
 */
export async function loadModule(path: string): Promise<{ default?: unknown }> {
  try {
    return await import(pathToFileURL(path).href);
  } catch (error) {
    throw new Error(await whyNot(path, error), { cause: error });
  }
}

async function whyNot(path: string, error: unknown): Promise<string> {
  const extension = extname(path);
  if (error instanceof Error && 'code' in error && error.code === 'ERR_UNKNOWN_FILE_EXTENSION') {
    return moduleExtensions.includes(extension)
      ? `can't be loaded by Node ${process.versions.node}: use Node 22.18 or newer, or compile it to JavaScript`
      : 'is no JavaScript or TypeScript';
  }
  const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const advice = (await isCommonJs(path))
    ? ` (Node takes it for CommonJS: name it ${basename(path, extension)}.m${extension.slice(1)}, or have a ` +
      'package.json with "type": "module" above it)'
    : '';
  return `can't be loaded: ${reason}${advice}`;
}

/** Whether the nearest package.json leaves a file that could be either to the older kind of modules. */
async function isCommonJs(path: string): Promise<boolean> {
  if (!/^\.[jt]s$/.test(extname(path))) return false;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => undefined);
    if (text !== undefined) return !/"type"\s*:\s*"module"/.test(text);
    if (folder === dirname(folder)) return true;
  }
}
