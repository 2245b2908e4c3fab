import { BerthError } from '../../errors.ts';

/** `session.skill()` names a skill that neither the agent nor the workspace has; `reason` is why one is not taken. */
export class SkillNotRegisteredError extends BerthError<{ name: string; known: string[]; reason?: string }> {
  static {
    SkillNotRegisteredError.prototype.name = 'SkillNotRegisteredError';
  }
  readonly code = 'skill_not_registered';
  constructor(meta: { name: string; known: string[]; reason?: string }, options?: ErrorOptions) {
    const known = meta.known.length === 0 ? 'there are none' : `there are ${meta.known.join(', ')}`;
    super(
      `There is no skill ${JSON.stringify(meta.name)} (${known}).${meta.reason ? ` ${meta.reason}` : ''}`,
      meta,
      options,
    );
  }
}
