import { createHash } from 'node:crypto';
import { toTool } from '../define/tool.ts';
import { eventLog } from '../events/log.ts';
import type { Operation, Place } from '../harness/operation.ts';
import type { Model, ModelTool } from '../model/model.ts';
import { type LoopTool, modelTool } from '../model/tool.ts';
import { knownSkills } from '../skills/known.ts';
import { type SkillReference, withFiles } from '../skills/skill.ts';
import { activateSkill, readResource } from '../skills/skill-tools.ts';
import type { KnownSkill } from '../skills/workspace.ts';
import { taskTools } from '../subagents/task-tool.ts';
import { customTool } from '../tools/custom-tool.ts';
import type { OpenSession } from './open-session.ts';
import type { PromptOptions } from './session.ts';
import { systemPrompt } from './system-prompt.ts';

/** What a model gets before the messages. `skills` are those that the system prompt names. */
export interface Preamble {
  system: string;
  tools: ModelTool[];
  skills: readonly KnownSkill[];
}

/**
 * The tools of a prompt, and what its model is told before the messages. What comes and goes with the call stands behind
 * the tools that the conversation has kept.
 * @param options.further - skills besides those of the agent, whose files the model can read
 * @param options.result - the tools by which a result is given
 * @throws {ToolNameConflictError} two tools have one name, or one has a name that is reserved
 */
export async function promptTools(
  session: OpenSession,
  model: Model,
  options: PromptOptions & { further: readonly SkillReference[]; resultTools: LoopTool[] },
  operation: Operation,
): Promise<{ tools: LoopTool[]; preamble: () => Promise<Omit<Preamble, 'skills'>> }> {
  const { harness, conversation } = session;
  const { emit, place } = operation;
  const log = eventLog(emit);
  const ofAgent = withFiles(place.agent.skills);
  const skills = [...ofAgent, ...withFiles(options.further)];
  const readers = readResource(skills);
  const ofCall = (options.tools ?? []).map((tool) => customTool(toTool(tool), operation));
  const servers = await harness.mcpTools(operation);
  const tools = harness.tools(operation, {
    seesImages: model.seesImages !== false,
    skills,
    further: [...servers, ['tools of the call', ofCall]],
    framework: [
      ...taskTools(session, options, operation),
      activateSkill(place, async () => (await kept()).skills),
      ...readers,
      ...options.resultTools,
    ],
  });
  const passing = [...ofCall, ...(ofAgent.length === 0 ? readers : []), ...options.resultTools];
  const lasting = tools.filter((tool) => !passing.includes(tool));
  const ofServers = servers.flatMap(([, given]) => given);
  const own = lasting.filter((tool) => !ofServers.includes(tool));
  const configuration = configurationHash(place, own.map(modelTool));
  const kept = () =>
    conversation.preamble(configuration, async () => {
      const known = await knownSkills(place, log);
      const shown = lasting.filter(({ name }) => name !== 'activate_skill' || known.length > 0);
      const system = await systemPrompt({ ...place, skills: known, log });
      return { system, tools: shown.map(modelTool), skills: known };
    });
  const preamble = async () => {
    const { system, tools: told } = await kept();
    // One of a server, which is gone, may have had the name of one of the call.
    const others = told.filter(({ name }) => !passing.some((tool) => tool.name === name));
    return { system, tools: [...others, ...passing.map(modelTool)] };
  };
  return { tools, preamble };
}

/**
 * What the preamble is made of that is the agent's own. What is found in the sandbox or told by servers is no part of it:
 * that may change without anybody having wanted another agent.
 * @param tools - without those of servers
 */
function configurationHash({ agent, env }: Place, tools: ModelTool[]): string {
  const { instructions, workspaceContext, skills, mcpServers } = agent;
  const described = skills.map(({ name, description }) => [name, description]);
  const servers = Object.entries(mcpServers).map(([name, options]) => [
    name,
    'command' in options ? options.command : options.url,
    options.tools,
  ]);
  const parts = [instructions, workspaceContext, env.cwd, described, servers, tools];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
