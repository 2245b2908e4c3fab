import { readdir } from 'node:fs/promises';
import { extname, join, resolve } from 'node:path';
import { type AgentDefinition, isAgent } from './agent.ts';
import { Problems } from './checks.ts';
import { loadModule, moduleExtensions } from './load-module.ts';
import { agentNamePattern } from './names.ts';
import { isWorkflow, type WorkflowDefinition } from './workflow.ts';

interface Definitions {
  agents: Record<string, AgentDefinition>;
  workflows: Record<string, WorkflowDefinition>;
}

/**
 * Loads what the files in `agents/` and `workflows/` of a folder export as default, and adds it to what is registered
 * already: each under the name of its file. What is in folders below is not looked at, nor a file whose name has another
 * point in it, as `fix.test.ts`.
 * @throws {DefinitionError} a file can't be loaded, exports something else, or has a name that is taken
 */
export async function discover(folder: string, registered: Definitions): Promise<Definitions> {
  const problems = new Problems('The runtime');
  const agents = await definitions(join(folder, 'agents'), registered.agents, problems, {
    fits: isAgent,
    expected: 'an agent as default: export default defineAgent(…)',
  });
  const workflows = await definitions(join(folder, 'workflows'), registered.workflows, problems, {
    fits: isWorkflow,
    expected: 'a workflow as default: export default defineWorkflow({ … })',
  });
  if (!agents && !workflows) problems.add(resolve(folder), 'has neither a folder agents nor a folder workflows');
  problems.throwIfAny();
  return { agents: agents ?? registered.agents, workflows: workflows ?? registered.workflows };
}

/** `undefined`: there is no such folder. */
async function definitions<Definition>(
  folder: string,
  registered: Record<string, Definition>,
  problems: Problems,
  { fits, expected }: { fits(value: unknown): value is Definition; expected: string },
): Promise<Record<string, Definition> | undefined> {
  const files = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    problems.add(folder, `can't be read: ${error.message}`);
    return [];
  });
  const found = new Map(Object.entries(registered));
  for (const file of files?.sort() ?? []) {
    const extension = extname(file);
    const name = file.slice(0, -extension.length);
    if (!moduleExtensions.includes(extension) || name.includes('.')) continue;
    const path = resolve(folder, file);
    problems.name(name, path, agentNamePattern);
    if (found.has(name)) {
      problems.add(path, `can't be registered: the name ${name} is taken`);
      continue;
    }
    try {
      const { default: exported } = await loadModule(path);
      const other = [...found].find(([, known]) => known === exported);
      if (!fits(exported)) problems.add(path, `must export ${expected}`);
      else if (other) problems.add(path, `is ${other[0]} already: it can have one name only`);
      else found.set(name, exported);
    } catch (error) {
      problems.add(path, (error as Error).message); // `loadModule` says why
    }
  }
  return files && Object.fromEntries(found);
}
