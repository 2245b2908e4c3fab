import { InvalidRequestError } from '../errors.ts';
import { eventLog } from '../events/log.ts';
import type { Operation } from '../harness/operation.ts';
import { checkOptions } from '../options.ts';
import { jsonSnapshot, NotJson } from '../schema/snapshot.ts';
import { knownSkills, skillText } from '../skills/known.ts';
import { isSkill, type SkillReference } from '../skills/skill.ts';
import { checkPrompt, promptOptions } from './check-prompt.ts';
import type { OpenSession } from './open-session.ts';
import { runPrompt } from './prompt.ts';
import type { PromptResult, SkillOptions } from './session.ts';

/**
 * @throws {DefinitionError} the schema of the result or a tool of the call is no good one
 * @throws {InvalidRequestError} another argument is not
 */
export function checkSkill(skill: string | SkillReference, options: SkillOptions): void {
  checkOptions('skill', options, { ...promptOptions, args: true });
  if (typeof skill !== 'string' && !isSkill(skill)) {
    throw new InvalidRequestError('a skill is a name, or what defineSkill or loadSkill gave, not a copy');
  }
  const { args: _, ...ofPrompt } = options;
  checkPrompt('', ofPrompt);
  argumentsText(options.args);
}

/** Prompts with the text of a skill. */
export async function runSkill(
  session: OpenSession,
  skill: string | SkillReference,
  { args, ...options }: SkillOptions,
  operation: Operation,
): Promise<PromptResult & { data?: unknown }> {
  const { place, emit } = operation;
  const text = await skillText(place, skill, () => knownSkills(place, eventLog(emit)));
  return runPrompt(session, text + argumentsText(args), options, operation, {
    further: typeof skill === 'string' ? [] : [skill],
  });
}

/** @throws {InvalidRequestError} JSON can't hold them */
function argumentsText(args: unknown): string {
  if (args === undefined) return '';
  try {
    return `\n\nArguments:\n${JSON.stringify(jsonSnapshot(args, 'args'), undefined, 2)}`;
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    throw new InvalidRequestError(`args must be JSON: ${error.message}`, { cause: error });
  }
}
