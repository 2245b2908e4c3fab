import { stat } from 'node:fs/promises';
import { basename, extname, resolve } from 'node:path';
import { loadModule, moduleExtensions } from '../runtime/define/load-module.ts';
import { isWorkflow, type WorkflowDefinition } from '../runtime/define/workflow.ts';
import { UsageError } from './errors.ts';

/**
 * The workflow that a file exports as default, with the name of the file where it has none. A plain word names the file
 * of that name in `workflows/`.
 * @throws {UsageError} there is none
 */
export async function loadWorkflow(target: string): Promise<{ name: string; workflow: WorkflowDefinition }> {
  const path = await findWorkflow(target);
  const loaded = await loadModule(path).catch((error: Error) => {
    throw new UsageError(`${target} ${error.message}.`, { cause: error });
  });
  const workflow = loaded.default;
  if (isWorkflow(workflow)) return { name: workflow.name ?? basename(path, extname(path)), workflow };
  const what = loaded.default === undefined ? 'has no default export' : 'exports something else as default';
  throw new UsageError(`${target} ${what}. Write: export default defineWorkflow({ … })`);
}

/** The path of its file. @throws {UsageError} there is none */
export async function findWorkflow(target: string): Promise<string> {
  const isWord = !/[\\/.]/.test(target);
  const paths = isWord ? moduleExtensions.map((extension) => `workflows/${target}${extension}`) : [target];
  for (const path of paths) if (await isFile(resolve(path))) return resolve(path);
  if (target === '') throw new UsageError('Give the path of a file that exports a workflow, or the name of one.');
  throw new UsageError(
    isWord
      ? `There is no workflow ${target}: make it in workflows/${target}.ts, or give the path of its file.`
      : `There is no file ${resolve(target)}. Give the path of a file that exports a workflow.`,
  );
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}
