import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isWorkflow, type WorkflowDefinition } from '../runtime/define/workflow.ts';
import { UsageError } from './errors.ts';

const extensions = ['.ts', '.mts', '.js', '.mjs'];

/**
 * The workflow that a file exports as default, with the name of the file where it has none. A plain word names the file
 * of that name in `workflows/`.
 * @throws {UsageError} there is none
 */
export async function loadWorkflow(target: string): Promise<{ name: string; workflow: WorkflowDefinition }> {
  const path = await findWorkflow(target);
  const loaded = await load(path, target);
  const workflow = loaded.default;
  if (isWorkflow(workflow)) return { name: workflow.name ?? basename(path, extname(path)), workflow };
  const what = loaded.default === undefined ? 'has no default export' : 'exports something else as default';
  throw new UsageError(`${target} ${what}. Write: export default defineWorkflow({ … })`);
}

/** The path of its file. @throws {UsageError} there is none */
export async function findWorkflow(target: string): Promise<string> {
  const isWord = !/[\\/.]/.test(target);
  const paths = isWord ? extensions.map((extension) => `workflows/${target}${extension}`) : [target];
  for (const path of paths) if (await isFile(resolve(path))) return resolve(path);
  if (target === '') throw new UsageError('Give the path of a file that exports a workflow, or the name of one.');
  throw new UsageError(
    isWord
      ? `There is no workflow ${target}: make it in workflows/${target}.ts, or give the path of its file.`
      : `There is no file ${resolve(target)}. Give the path of a file that exports a workflow.`,
  );
}

async function load(path: string, target: string): Promise<{ default?: unknown }> {
  try {
    return await import(pathToFileURL(path).href);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_UNKNOWN_FILE_EXTENSION') {
      throw new UsageError(
        extensions.includes(extname(path))
          ? `Node ${process.versions.node} can't load ${target}: use Node 22.18 or newer, or compile it to JavaScript.`
          : `${target} is no JavaScript or TypeScript. Give a file that exports a workflow.`,
        { cause: error },
      );
    }
    const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const advice = (await isCommonJs(path))
      ? ` Node takes it for CommonJS: name it ${basename(path, extname(path))}.m${extname(path).slice(1)}, or have ` +
        'a package.json with "type": "module" above it.'
      : '';
    throw new UsageError(`${target} can't be loaded: ${reason}${advice}`, { cause: error });
  }
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

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}
