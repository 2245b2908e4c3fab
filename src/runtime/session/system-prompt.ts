import type { ResolvedAgent } from '../define/agent.ts';
import type { Log } from '../events/log.ts';
import type { SandboxEnv } from '../sandbox/env.ts';

const maxFileBytes = 64 * 1024;
const maxNames = 200;

/** What a model is told before the conversation: runtime-contract.md, section 4.1. */
export async function systemPrompt(agent: ResolvedAgent, env: SandboxEnv, log: Log): Promise<string> {
  const parts = [agent.instructions];
  if (agent.workspaceContext) parts.push(...(await contextFiles(env, log)));
  const facts = [`Date: ${new Date().toISOString().slice(0, 10)}`, `Working directory: ${env.cwd}`];
  if (agent.workspaceContext) facts.push(...(await names(env, log)));
  parts.push(facts.join('\n'));
  return parts.filter((part) => part !== undefined && part !== '').join('\n\n');
}

async function contextFiles(env: SandboxEnv, log: Log): Promise<string[]> {
  const texts: string[] = [];
  for (const name of ['AGENTS.md', 'CLAUDE.md']) {
    try {
      if (!(await env.exists(name))) continue;
      const text = await beginning(env, name);
      if (text !== '' && !texts.includes(text)) texts.push(text);
    } catch (error) {
      log.warn(`${name} can't be read, so the model does not get it`, { error });
    }
  }
  return texts;
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

/** The first 64 KB of a file, trimmed: what a sandbox holds may be of any size. */
async function beginning(env: SandboxEnv, path: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  if (env.createReadStream) {
    for await (const chunk of env.createReadStream(path, { end: maxFileBytes - 1 })) chunks.push(chunk);
  } else {
    chunks.push((await env.readFileBuffer(path)).subarray(0, maxFileBytes));
  }
  // A character that the cut goes through is left out as well.
  return new TextDecoder().decode(Buffer.concat(chunks), { stream: true }).trim();
}
