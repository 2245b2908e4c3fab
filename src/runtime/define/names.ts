/** Names of actions and tools: what every provider of models accepts. */
export const toolNamePattern = /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/;

/** Names of agents, workflows and profiles. */
export const agentNamePattern = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

/** Names of skills, as the Agent Skills specification has them. */
export const skillNamePattern = /^(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+)*$/;

/** Tools of the framework: nothing else may have these names, also where they are not offered. */
export const frameworkToolNames: ReadonlySet<string> = new Set([
  'task',
  'activate_skill',
  'read_skill_resource',
  'finish',
  'give_up',
]);
