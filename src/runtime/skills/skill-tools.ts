import { posix } from 'node:path';
import * as v from 'valibot';
import type { Place } from '../harness/operation.ts';
import { type LoopTool, textResult } from '../model/tool.ts';
import { checkedTool } from '../tools/arguments.ts';
import { readInput, textLines } from '../tools/read.ts';
import { SkillNotRegisteredError } from './errors.ts';
import { skillText } from './known.ts';
import { resourceText } from './resources.ts';
import type { SkillReference } from './skill.ts';
import type { KnownSkill } from './workspace.ts';

/** @param known - gives the skills that the model is told of */
export function activateSkill(place: Place, known: () => Promise<readonly KnownSkill[]>): LoopTool {
  return checkedTool({
    name: 'activate_skill',
    description: 'Gives the instructions of a skill, and says where its other files are.',
    input: v.strictObject({ name: v.pipe(v.string(), v.description('The name of the skill')) }),
    async run({ name }) {
      try {
        return textResult(await skillText(place, name, known));
      } catch (error) {
        if (!(error instanceof SkillNotRegisteredError)) throw error;
        return textResult(error.message, { isError: true });
      }
    },
  });
}

/** @param skills - those that bring files; without any there is no tool */
export function readResource(skills: readonly SkillReference[]): LoopTool[] {
  if (skills.length === 0) return [];
  const tool = checkedTool({
    name: 'read_skill_resource',
    description: 'Reads a file that a skill brings, as read does for other files. What is no text is given in base64.',
    input: readInput('The path, as activate_skill gives it'),
    async run({ path, ...lines }) {
      const text = resourceText(skills, posix.resolve('/', path));
      if (text === undefined)
        throw new Error(`${path} is no path of a skill: read and bash reach what is in the sandbox.`);
      return textLines(path, text, lines);
    },
  });
  return [tool];
}
