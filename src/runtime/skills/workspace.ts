import { Problems } from '../define/checks.ts';
import { skillNamePattern } from '../define/names.ts';
import type { Log } from '../events/log.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { fileStart } from '../sandbox/file-start.ts';
import { ownFile } from '../sandbox/own-file.ts';
import { maxSkillBytes, type SkillBody } from './skill.ts';
import { parseSkillFile } from './skill-file.ts';

const folder = '.agents/skills';
/** The system prompt has a line for each. */
const maxSkills = 100;

/** What a model is told of a skill before it takes it up. */
export interface KnownSkill {
  readonly name: string;
  readonly description: string;
}

/**
 * The skills in the working directory of a sandbox, by name. It may hold anything there: what is not good is left out,
 * with a warning.
 * @param taken - names that others have
 */
export async function workspaceSkills(env: SandboxEnv, taken: ReadonlySet<string>, log: Log): Promise<KnownSkill[]> {
  const found: KnownSkill[] = [];
  try {
    if (!(await env.exists(folder))) return found;
    const names = (await env.readdir(folder)).sort();
    for (const name of names.slice(0, maxSkills)) {
      if (!(await env.exists(`${folder}/${name}/SKILL.md`))) continue;
      try {
        if (!skillNamePattern.test(name)) throw new Error('Its directory has a name that a skill can not have.');
        if (taken.has(name)) throw new Error('The agent has a skill of that name.');
        const { description } = await workspaceSkill(env, name);
        found.push({ name, description });
      } catch (error) {
        log.warn(`The skill ${JSON.stringify(name.slice(0, 64))} of the workspace is left out`, { error });
      }
    }
    const more = names.length - maxSkills;
    if (more > 0) log.warn(`Of ${folder} only the first ${maxSkills} names are looked at; ${more} more are left out`);
  } catch (error) {
    log.warn(`${folder} can't be read, so the model does not get the skills in it`, { error });
  }
  return found;
}

/** Whether the workspace has a skill of that name, good or not. */
export async function isInWorkspace(env: SandboxEnv, name: string): Promise<boolean> {
  return skillNamePattern.test(name) && (await env.exists(`${folder}/${name}/SKILL.md`));
}

/** The skill of that name as it is now. A link that leads out of the working directory is not followed. */
export async function workspaceSkill(env: SandboxEnv, name: string): Promise<SkillBody> {
  const { path, size } = await ownFile(env, `${workspaceDirectory(env, name)}/SKILL.md`);
  if (size > maxSkillBytes) throw new Error('Its SKILL.md is larger than 1 MB.');
  const bytes = await fileStart(env, path, maxSkillBytes + 1);
  return parseSkillFile(new Problems(`The skill ${name}`), bytes, name);
}

export function workspaceDirectory(env: SandboxEnv, name: string): string {
  return env.resolvePath(`${folder}/${name}`);
}
