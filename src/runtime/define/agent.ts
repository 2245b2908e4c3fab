import { checkMcpServers, type McpServers } from '../mcp/agent-servers.ts';
import type { Model, ThinkingLevel } from '../model/model.ts';
import type { SandboxFactory } from '../sandbox/env.ts';
import { checkSkillItem, type Skill, toSkill } from '../skills/skill.ts';
import { builtinToolNames } from '../tools/builtin.ts';
import { type ActionDefinition, isAction } from './action.ts';
import { type Fields, Problems } from './checks.ts';
import { defined, isDefined } from './definition.ts';
import { agentNamePattern } from './names.ts';
import { checkToolItem, type ToolDefinition, toTool } from './tool.ts';

const switchable = [...builtinToolNames, 'task'] as const;

export type BuiltinToolName = (typeof switchable)[number];

/** When the older part of a conversation gives way to a summary, and how much of it. All sizes are tokens. */
export interface CompactionOptions {
  /**
   * How much of the model's window is to stay free. Default: 20,000, or the model's output limit if that is lower; a
   * third of a window that is too small for that
   */
  reserveTokens?: number | undefined;
  /** How much of the newest messages stays as it is, by an estimate. Default: 8,000, less in a small window */
  keepRecentTokens?: number | undefined;
  /** Writes the summary. Default: the model that is at work */
  model?: string | Model | undefined;
}

/** How long work of an agent may take. */
export interface DurabilityOptions {
  /**
   * Milliseconds from the start of a message to an agent instance: then it is aborted, and fails with
   * `SubmissionTimeoutError`. Default: an hour. Of a run, where it is given: it fails with `ActionTimeoutError`
   */
  timeoutMs?: number | undefined;
  /**
   * How often work that is interrupted, as when its process dies, is begun; then it fails with
   * `SubmissionRetryExhaustedError`. For a run only attempts in a row count that recorded no new step. Default: 10
   */
  maxAttempts?: number | undefined;
}

/** Where `durability` does not say it. */
export const defaultMaxAttempts = 10;

/** Reusable behaviour, without a sandbox. */
export interface AgentProfile {
  /** A letter, then letters, digits, `_`, `-`; at most 64. Needed where it is a subagent: a task names it. */
  name?: string | undefined;
  /** `'provider/model'`, or a model itself. Without one, asking for a model throws `ModelNotConfiguredError`. */
  model?: string | Model | undefined;
  /** The first part of the system prompt. */
  instructions?: string | undefined;
  /** What it is good for: shown to a model that may give it tasks. */
  description?: string | undefined;
  /** Instructions that the model takes up when they are of use: of `defineSkill`, `loadSkill`, or a name and a description. */
  skills?: readonly Skill[] | undefined;
  /** Of `defineTool`, of an MCP server, or plain objects of the same fields. */
  tools?: readonly ToolDefinition[] | undefined;
  /** Offered to the model as tools. */
  actions?: readonly ActionDefinition[] | undefined;
  /** Profiles with names, which the model may give tasks to. */
  subagents?: readonly AgentProfile[] | undefined;
  /** Default: medium */
  thinkingLevel?: ThinkingLevel | undefined;
  /** Which of the built-in tools the model gets; `false` is none. Default: all */
  builtinTools?: false | readonly BuiltinToolName[] | undefined;
  /** `false`: nothing of the sandbox's files enters the system prompt. Default: true */
  workspaceContext?: boolean | undefined;
  /** `false`: only when a request was too long, and by `session.compact()`. Default: also before the window is full */
  compaction?: false | CompactionOptions | undefined;
  /** By name; their tools are `mcp__<name>__<tool>`. Connected at the first prompt of a harness, closed with it. */
  mcpServers?: McpServers | undefined;
  /** Not for a subagent: its work is a part of that of others. */
  durability?: DurabilityOptions | undefined;
}

/** What the function of `defineAgent` gives: a profile, and where the agent works. */
export interface AgentConfig extends Omit<AgentProfile, 'name'> {
  /** The baseline: an own field wins over its field; `skills`, `tools`, `actions` and `subagents` come after its own. */
  profile?: AgentProfile | undefined;
  /** Where it works, relative to the directory of the sandbox. Default: that directory */
  cwd?: string | undefined;
  /** Default: that of the runtime */
  sandbox?: SandboxFactory | undefined;
}

/** What the function of `defineAgent` gets. */
export interface AgentContext {
  /** The id of the agent instance or run that the harness is opened for. */
  readonly id: string;
  /** The environment that the runtime was given; commands in the sandbox do not see it. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Gives the configuration of an agent, each time that a sandbox is opened for it. */
export type AgentInitializer = (context: AgentContext) => AgentConfig | Promise<AgentConfig>;

/** An agent, as `defineAgent` made it. Known by identity: a copy is refused. */
export interface AgentDefinition {
  /** What it is known by where it is not registered under a name. */
  readonly name?: string;
  readonly initialize: AgentInitializer;
}

/** What an agent is for one harness: its configuration laid over its profile, all checked. */
export interface ResolvedAgent {
  readonly name?: string;
  readonly description?: string;
  readonly model?: string | Model;
  readonly instructions?: string;
  readonly skills: readonly Skill[];
  readonly tools: readonly ToolDefinition[];
  readonly actions: readonly ActionDefinition[];
  readonly subagents: readonly AgentProfile[];
  readonly thinkingLevel: ThinkingLevel;
  readonly builtinTools: readonly BuiltinToolName[];
  readonly workspaceContext: boolean;
  readonly compaction: false | CompactionOptions;
  readonly mcpServers: McpServers;
  readonly durability: DurabilityOptions;
  readonly cwd?: string;
  readonly sandbox?: SandboxFactory;
}

const thinkingLevels: readonly ThinkingLevel[] = ['off', 'minimal', 'low', 'medium', 'high', 'xhigh'];

const behaviourFields = [
  'model',
  'instructions',
  'description',
  'skills',
  'tools',
  'actions',
  'subagents',
  'thinkingLevel',
  'builtinTools',
  'workspaceContext',
  'compaction',
  'mcpServers',
];
const profileFields: Fields = { known: ['name', 'durability', ...behaviourFields] };
const subagentFields: Fields = {
  known: ['name', ...behaviourFields],
  advice: { durability: 'is that of the work which the subagent is a part of' },
};
const configFields: Fields = { known: [...behaviourFields, 'durability', 'profile', 'cwd', 'sandbox'] };

/**
 * Checks a profile and gives it back as it is.
 * @throws {DefinitionError} with everything that is wrong with the profile
 */
export function defineAgentProfile<const Profile extends AgentProfile>(
  profile: Profile & { readonly [Field in Exclude<keyof Profile, keyof AgentProfile>]: never },
): Profile {
  const problems = new Problems('The agent profile');
  checkProfile(problems, profile, '');
  problems.throwIfAny();
  return profile;
}

/**
 * Defines an agent: the configuration of a model with tools, actions and a sandbox.
 * @param initialize - called each time a root harness is opened for the agent: keep it cheap and free of effects
 * @param options.name - the name that the agent is known by where it is not registered under one
 * @throws {DefinitionError} with everything that is wrong with the definition
 * @example const coder = defineAgent(() => ({ model: 'anthropic/claude-opus-5', instructions: 'You fix bugs.' }));
 */
export function defineAgent(initialize: AgentInitializer, options: { name?: string } = {}): AgentDefinition {
  const problems = new Problems('The agent');
  problems.function(initialize, 'initialize');
  const { name } = problems.record(options, 'options', { known: ['name'] });
  problems.optional(name, 'options.name', (value, path) => problems.name(value, path, agentNamePattern));
  problems.throwIfAny();
  return defined('agent', { initialize, ...(options.name !== undefined && { name: options.name }) });
}

export function isAgent(value: unknown): value is AgentDefinition {
  return isDefined('agent', value);
}

/**
 * Calls the initializer and lays what it gives over its profile.
 * @throws {DefinitionError} with everything that is wrong with the configuration
 */
export async function resolveAgent(agent: AgentDefinition, context: AgentContext): Promise<ResolvedAgent> {
  const config = await agent.initialize(context);
  const problems = new Problems(agent.name === undefined ? 'The agent configuration' : `The agent ${agent.name}`);
  const record = problems.record(config, '', configFields);
  checkBehaviour(problems, record, '', []);
  if (record.profile !== undefined) checkProfile(problems, record.profile, 'profile');
  checkDurability(problems, record.durability, 'durability');
  problems.optional(record.cwd, 'cwd', (value, path) => problems.text(value, path));
  problems.optional(record.sandbox, 'sandbox', (value, path) => checkFactory(problems, value, path));
  problems.throwIfAny();

  const { profile, ...own } = config;
  const merged = { ...profile, ...own }; // own fields win also when they are undefined
  const skills = [...(profile?.skills ?? []), ...(own.skills ?? [])];
  const tools = [...(profile?.tools ?? []), ...(own.tools ?? [])];
  const actions = [...(profile?.actions ?? []), ...(own.actions ?? [])];
  problems.uniqueNames(skills, 'skills');
  problems.uniqueNames(tools, 'tools');
  const subagents = [...(profile?.subagents ?? []), ...(own.subagents ?? [])];
  problems.uniqueNames(actions, 'actions');
  problems.uniqueNames(subagents, 'subagents');
  problems.throwIfAny();
  return {
    ...behaviour({ ...merged, skills, tools, actions, subagents }),
    ...(own.cwd !== undefined && { cwd: own.cwd }),
    ...(own.sandbox !== undefined && { sandbox: own.sandbox }),
  };
}

/** A profile with its defaults. */
export function behaviour(profile: AgentProfile): ResolvedAgent {
  const { name, description, instructions, model, builtinTools } = profile;
  return {
    skills: (profile.skills ?? []).map(toSkill),
    tools: (profile.tools ?? []).map(toTool),
    actions: profile.actions ?? [],
    subagents: profile.subagents ?? [],
    thinkingLevel: profile.thinkingLevel ?? 'medium',
    builtinTools: builtinTools === false ? [] : (builtinTools ?? switchable),
    workspaceContext: profile.workspaceContext ?? true,
    compaction: profile.compaction ?? {},
    mcpServers: profile.mcpServers ?? {},
    durability: profile.durability ?? {},
    ...(name !== undefined && { name }),
    ...(description !== undefined && { description }),
    ...(model !== undefined && { model }),
    ...(instructions !== undefined && { instructions }),
  };
}

export function checkModel(problems: Problems, value: unknown, path: string): void {
  if (typeof value === 'string') return; // its form is checked where models are looked up
  const model = value as Partial<Model> | null; // any value: only the types of its fields are looked at
  const isModel =
    typeof model === 'object' &&
    typeof model?.provider === 'string' &&
    typeof model.id === 'string' &&
    typeof model.stream === 'function';
  if (!isModel) problems.add(path, "must be 'provider/model' or a Model");
}

export function checkFactory(problems: Problems, value: unknown, path: string): void {
  const factory = value as Partial<SandboxFactory> | null; // any value: only the types of its fields are looked at
  if (typeof factory !== 'object' || typeof factory?.createSandbox !== 'function') {
    problems.add(path, 'must be a sandbox factory: docker() or local(), say');
  } else problems.optional(factory.tools, `${path}.tools`, (tools, at) => problems.function(tools, at));
}

export function checkThinkingLevel(problems: Problems, value: unknown, path: string): void {
  problems.oneOf(value, path, thinkingLevels);
}

function checkCompaction(problems: Problems, value: unknown, root: string): void {
  const options = problems.record(value, root, { known: ['reserveTokens', 'keepRecentTokens', 'model'] });
  for (const field of ['reserveTokens', 'keepRecentTokens']) {
    problems.optional(options[field], `${root}.${field}`, (tokens, path) => {
      if (!Number.isSafeInteger(tokens) || Number(tokens) < 0) problems.add(path, 'must be a whole number, 0 or more');
    });
  }
  problems.optional(options.model, `${root}.model`, (model, path) => checkModel(problems, model, path));
}

function checkProfile(problems: Problems, value: unknown, path: string): void {
  const profile = problems.record(value, path, profileFields);
  const at = path === '' ? 'name' : `${path}.name`;
  problems.optional(profile.name, at, (name, where) => problems.name(name, where, agentNamePattern));
  checkDurability(problems, profile.durability, path === '' ? 'durability' : `${path}.durability`);
  checkBehaviour(problems, profile, path, [value]);
}

function checkDurability(problems: Problems, value: unknown, root: string): void {
  problems.optional(value, root, (given) => {
    const { timeoutMs, maxAttempts } = problems.record(given, root, { known: ['timeoutMs', 'maxAttempts'] });
    problems.optional(maxAttempts, `${root}.maxAttempts`, (count, path) => problems.positiveInteger(count, path));
    problems.optional(timeoutMs, `${root}.timeoutMs`, (ms, path) => problems.positiveInteger(ms, path));
  });
}

/** @param above - the profiles that these are below */
function checkSubagents(problems: Problems, value: unknown, path: string, above: readonly unknown[]): void {
  const subagents = problems.array(value, path);
  for (const [i, subagent] of subagents.entries()) {
    const at = `${path}[${i}]`;
    if (above.includes(subagent)) {
      problems.add(at, 'is a subagent of itself');
      continue;
    }
    const profile = problems.record(subagent, at, subagentFields);
    problems.name(profile.name, `${at}.name`, agentNamePattern);
    checkBehaviour(problems, profile, at, [...above, subagent]);
  }
  problems.uniqueNames(subagents, path);
}

function checkBehaviour(
  problems: Problems,
  behaviour: Record<string, unknown>,
  root: string,
  above: readonly unknown[],
): void {
  const at = (field: string) => (root === '' ? field : `${root}.${field}`);
  problems.optional(behaviour.model, at('model'), (value, path) => checkModel(problems, value, path));
  problems.optional(behaviour.instructions, at('instructions'), (value, path) => {
    if (typeof value !== 'string') problems.add(path, 'must be a string');
  });
  problems.optional(behaviour.description, at('description'), (value, path) => problems.text(value, path));
  problems.optional(behaviour.thinkingLevel, at('thinkingLevel'), (value, path) =>
    checkThinkingLevel(problems, value, path),
  );
  problems.optional(behaviour.workspaceContext, at('workspaceContext'), (value, path) => problems.boolean(value, path));
  if (behaviour.compaction !== false) {
    problems.optional(behaviour.compaction, at('compaction'), (value, path) => checkCompaction(problems, value, path));
  }
  if (behaviour.builtinTools !== undefined && behaviour.builtinTools !== false) {
    const names = problems.array(behaviour.builtinTools, at('builtinTools'));
    for (const [i, name] of names.entries()) {
      problems.oneOf(name, `${at('builtinTools')}[${i}]`, switchable);
      if (names.indexOf(name) < i) problems.add(`${at('builtinTools')}[${i}]`, 'is there twice');
    }
  }
  checkMcpServers(problems, behaviour.mcpServers, at('mcpServers'));
  const skills = problems.array(behaviour.skills, at('skills'));
  for (const [i, item] of skills.entries()) checkSkillItem(problems, item, `${at('skills')}[${i}]`);
  problems.uniqueNames(skills, at('skills'));
  const tools = problems.array(behaviour.tools, at('tools'));
  for (const [i, item] of tools.entries()) checkToolItem(problems, item, `${at('tools')}[${i}]`);
  problems.uniqueNames(tools, at('tools'));
  const actions = problems.array(behaviour.actions, at('actions'));
  for (const [i, item] of actions.entries()) {
    if (!isAction(item)) problems.add(`${at('actions')}[${i}]`, 'must be an action made by defineAction, not a copy');
  }
  problems.uniqueNames(actions, at('actions'));
  checkSubagents(problems, behaviour.subagents, at('subagents'), above);
}
