import type { Log } from '../events/log.ts';
import type { Place } from '../harness/operation.ts';
import { SkillNotRegisteredError } from './errors.ts';
import { isSkill, type SkillBody, type SkillReference } from './skill.ts';
import { isInWorkspace, type KnownSkill, workspaceDirectory, workspaceSkill, workspaceSkills } from './workspace.ts';

/** The skills of the agent at work, then those of its workspace. */
export async function knownSkills(
  { agent: { skills, workspaceContext }, env }: Pick<Place, 'agent' | 'env'>,
  log: Log,
): Promise<KnownSkill[]> {
  const own = skills.map(({ name, description }) => ({ name, description }));
  if (!workspaceContext) return own;
  return [...own, ...(await workspaceSkills(env, new Set(own.map(({ name }) => name)), log))];
}

/** What the system prompt says of them: a line for each, whatever a description holds. */
export function skillList(skills: readonly KnownSkill[]): string | undefined {
  if (skills.length === 0) return undefined;
  return [
    'Skills. Before work that one of them is for, call activate_skill with its name: it gives the instructions.',
    ...skills.map(({ name, description }) => `${name} — ${description.replace(/[\s\p{Cc}]+/gu, ' ').trim()}`),
  ].join('\n');
}

/**
 * What a model gets of a skill that it takes up: the instructions, and where its other files are.
 * @param skill - a name, or a skill that need not be one of the agent
 * @param known - gives those that there are, for the error
 * @throws {SkillNotRegisteredError} there is none of that name, or one of the workspace that is not good
 */
export async function skillText(
  { agent: { skills, workspaceContext }, env }: Pick<Place, 'agent' | 'env'>,
  skill: string | SkillReference,
  known: () => Promise<readonly KnownSkill[]>,
): Promise<string> {
  if (typeof skill !== 'string') return referenceText(skill);
  const own = skills.find(({ name }) => name === skill);
  if (own) return isSkill(own) ? referenceText(own) : `The skill ${skill} has no instructions. ${own.description}`;
  const names = async () => (await known()).map(({ name }) => name);
  if (!workspaceContext || !(await isInWorkspace(env, skill))) {
    throw new SkillNotRegisteredError({ name: skill, known: await names() });
  }
  let body: SkillBody;
  try {
    body = await workspaceSkill(env, skill);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new SkillNotRegisteredError({ name: skill, known: await names(), reason }, { cause });
  }
  return joined(body, [
    `Its other files, if it has any, are in ${workspaceDirectory(env, skill)}: relative paths start there.`,
  ]);
}

function referenceText(skill: SkillReference): string {
  const { directory, files } = skill;
  if (files.length === 0) return joined(skill, []);
  return joined(skill, [
    'Its other files. Read those that you need with read_skill_resource; commands do not see them.',
    ...files.map(({ path }) => `${directory}/${path}`),
  ]);
}

function joined({ name, instructions }: SkillBody, files: readonly string[]): string {
  const text = instructions === '' ? `The skill ${name} has no instructions.` : instructions;
  return [`<skill name="${name}">\n${text}\n</skill>`, ...(files.length > 0 ? [files.join('\n')] : [])].join('\n\n');
}
