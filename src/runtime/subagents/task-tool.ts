import * as v from 'valibot';
import { maxDepth, type Operation } from '../harness/operation.ts';
import type { ImagePart } from '../model/model.ts';
import { type LoopTool, textResult } from '../model/tool.ts';
import type { OpenSession } from '../session/open-session.ts';
import type { PromptOptions } from '../session/session.ts';
import { checkedTool } from '../tools/arguments.ts';
import { AttachmentNotAvailableError } from './errors.ts';
import { declaredSubagent, subagentList } from './subagent.ts';
import { checkTask, ofCall, runTask } from './task.ts';

const text = v.pipe(v.string(), v.minLength(1));

/** The tool by which a model gives tasks to others; none where it is switched off or too deep. */
export function taskTools(session: OpenSession, options: PromptOptions, operation: Operation): LoopTool[] {
  const { agent, depth } = operation.place;
  if (depth >= maxDepth || !agent.builtinTools.includes('task')) return [];
  const subagents = subagentList(agent.subagents).map(
    ({ name, description }) => `\n- ${name}${description === undefined ? '' : `: ${description}`}`,
  );
  const tool = checkedTool({
    name: 'task',
    description:
      'Gives a task to another model, which begins with an empty conversation and works in the same files. You get its ' +
      'last text only, so say all that it must know, and what it shall tell you. Tasks of one turn run side by side.' +
      (subagents.length > 0 ? `\nAgents that can be named:${subagents.join('')}` : ''),
    input: v.strictObject({
      prompt: v.pipe(text, v.description('The task, in full')),
      agent: v.optional(v.pipe(text, v.description('The agent that does it. Default: one like you'))),
      description: v.optional(v.pipe(text, v.description('The task in a few words, for people who watch'))),
      cwd: v.optional(v.pipe(text, v.description('The directory to work in. Default: the working directory'))),
      attachments: v.optional(
        v.pipe(
          v.array(v.strictObject({ id: text })),
          v.description('Images that it shall see, of those in <attachments>'),
        ),
      ),
    }),
    isResumable: true,
    delegates: true,
    async run({ prompt, agent: name, cwd, attachments = [] }, { signal, toolCallId }) {
      const images: ImagePart[] = [];
      for (const { id } of attachments) {
        const image = await session.conversation.image(id);
        if (!image) throw new AttachmentNotAvailableError({ attachmentId: id });
        images.push(image);
      }
      const profile = name === undefined ? undefined : declaredSubagent(agent, name);
      const task = {
        ...ofCall(options, profile),
        ...(name !== undefined && { agent: name }),
        ...(cwd !== undefined && { cwd }),
        images,
      };
      checkTask(operation.place, prompt, task);
      const step = operation.step.toolCall(toolCallId);
      const result = await runTask(session, prompt, task, { ...operation, signal, step });
      return textResult(result.text.trim() === '' ? 'The task ended without a text.' : result.text);
    },
  });
  return [tool];
}
