import type { ResolvedAgent } from '../define/agent.ts';
import type { Log } from '../events/log.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { fileStart } from '../sandbox/file-start.ts';
import { ownFile } from '../sandbox/own-file.ts';
import { skillList } from '../skills/known.ts';
import type { KnownSkill } from '../skills/workspace.ts';

const maxFileBytes = 64 * 1024;
const maxNames = 200;

interface Given {
  agent: ResolvedAgent;
  env: SandboxEnv;
  skills: readonly KnownSkill[];
  log: Log;
}

/** The parts, in their order; one that is empty is left out. */
const parts: ((given: Given) => string | undefined | Promise<string | undefined>)[] = [
  ({ agent }) => agent.instructions,
  contextFiles,
  ({ skills }) => skillList(skills),
  facts,
];

/** What a model is told before the conversation: runtime-contract.md, section 4.1. */
export async function systemPrompt(given: Given): Promise<string> {
  const texts: string[] = [];
  for (const part of parts) {
    const text = await part(given);
    if (text !== undefined && text !== '') texts.push(text);
  }
  return texts.join('\n\n');
}

async function facts({ agent, env, log }: Given): Promise<string> {
  const lines = [`Date: ${new Date().toISOString().slice(0, 10)}`, `Working directory: ${env.cwd}`];
  if (agent.workspaceContext) lines.push(...(await names(env, log)));
  return lines.join('\n');
}

async function contextFiles({ agent, env, log }: Given): Promise<string | undefined> {
  if (!agent.workspaceContext) return undefined;
  const texts: string[] = [];
  for (const name of ['AGENTS.md', 'CLAUDE.md']) {
    try {
      if (!(await env.exists(name))) continue;
      const { path } = await ownFile(env, name);
      // A character that the cut goes through is left out as well.
      const text = new TextDecoder().decode(await fileStart(env, path, maxFileBytes), { stream: true }).trim();
      if (text !== '' && !texts.includes(text)) texts.push(text);
    } catch (error) {
      log.warn(`${name} can't be read, so the model does not get it`, { error });
    }
  }
  return texts.join('\n\n');
}

async function names(env: SandboxEnv, log: Log): Promise<string[]> {
  try {
    const all = (await env.readdir('.')).sort();
    if (all.length === 0) return ['The working directory is empty.'];
    const more = all.length > maxNames ? [`… and ${all.length - maxNames} more`] : [];
    return ['In it:', ...all.slice(0, maxNames), ...more];
  } catch (error) {
    log.warn("The working directory can't be listed, so the model does not get its names", { error });
    return [];
  }
}
