import type { AgentProfile, ResolvedAgent } from '../define/agent.ts';
import { behaviour } from '../define/agent.ts';
import { SubagentNotDeclaredError } from './errors.ts';

/** @throws {SubagentNotDeclaredError} */
export function declaredSubagent({ subagents }: ResolvedAgent, name: string): AgentProfile {
  const profile = subagents.find((subagent) => subagent.name === name);
  if (profile) return profile;
  throw new SubagentNotDeclaredError({ name, known: subagentList(subagents).map((known) => known.name) });
}

/** What others are told of subagents. */
export function subagentList(subagents: readonly AgentProfile[]): { name: string; description?: string }[] {
  return subagents.map(({ name = '', description }) => ({ name, ...(description !== undefined && { description }) }));
}

/** The agent that a profile is below another: what it works on and with is its own only, what else it leaves open the other's. */
export function subagentOf(parent: ResolvedAgent, profile: AgentProfile): ResolvedAgent {
  const given = Object.fromEntries(Object.entries(profile).filter(([, value]) => value !== undefined));
  return behaviour({
    ...parent,
    name: undefined,
    description: undefined,
    instructions: undefined,
    skills: [],
    tools: [],
    actions: [],
    subagents: [],
    ...given,
  });
}

/** An agent and all of its subagents, theirs too. */
export function withSubagents(agent: ResolvedAgent): ResolvedAgent[] {
  return [agent, ...agent.subagents.flatMap((profile) => withSubagents(subagentOf(agent, profile)))];
}
