import type { AgentProfile } from '../define/agent.ts';
import { DelegationDepthExceededError, InvalidRequestError } from '../errors.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter } from '../events/scope.ts';
import { maxDepth, type Operation, type Place } from '../harness/operation.ts';
import { checkOptions } from '../options.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { checkPrompt, checkText, promptOptions } from '../session/check-prompt.ts';
import type { OpenSession } from '../session/open-session.ts';
import type { PromptOptions, PromptResult, TaskOptions } from '../session/session.ts';
import { declaredSubagent, subagentOf } from './subagent.ts';

/**
 * @throws {DefinitionError} the schema of the result or a tool of the call is no good one
 * @throws {InvalidRequestError} another argument is not
 * @throws {SubagentNotDeclaredError} the agent has no such subagent
 * @throws {DelegationDepthExceededError} it would be too deep
 */
export function checkTask({ agent, depth }: Place, text: string, options: TaskOptions): void {
  checkOptions('task', options, { ...promptOptions, agent: true, cwd: true });
  const { agent: name, cwd = '.', ...ofPrompt } = options;
  checkPrompt(text, ofPrompt);
  checkText(text, ofPrompt.images);
  if (typeof cwd !== 'string' || cwd === '') throw new InvalidRequestError('cwd must be a path');
  if (name !== undefined) declaredSubagent(agent, name);
  if (depth >= maxDepth) throw new DelegationDepthExceededError({ maxDepth });
}

/** Gives a task to a child session of `parent`, as a part of an operation of it. */
export async function runTask(
  parent: OpenSession,
  text: string,
  { agent: name, cwd, ...options }: TaskOptions,
  operation: Operation,
): Promise<PromptResult & { data?: unknown }> {
  const { emit, place, signal, step } = operation;
  const taskId = step.id('task');
  const head = name === undefined ? {} : { agent: name };
  const meter = new UsageMeter(operation.meter);
  const startedAt = performance.now();
  emit({ type: 'task_start', ...head, prompt: text, ...(cwd !== undefined && { cwd }) }, { taskId });
  const end = (outcome: { result: unknown } | { error: unknown }) => {
    const failed = 'error' in outcome;
    emit(
      {
        type: 'task',
        ...head,
        ...(failed ? { error: recordedError(outcome.error) } : { result: outcome.result }),
        durationMs: Math.round(performance.now() - startedAt),
        isError: failed,
        usage: meter.total,
      },
      { taskId },
    );
  };
  let env: SandboxEnv | undefined;
  try {
    const agent = name === undefined ? place.agent : subagentOf(place.agent, declaredSubagent(place.agent, name));
    env = cwd === undefined ? undefined : await openIn(place.env, cwd, taskId);
    const child = parent.harness.childSession(parent, { ...operation, meter }, { taskId, agent, ...(env && { env }) });
    const result = await child.promptAs({}, text, { ...options, signal });
    end({ result });
    return result;
  } catch (error) {
    end({ error });
    throw error;
  } finally {
    await env?.close();
  }
}

/** What a task gets of the call that it is a part of: an own field of its subagent wins. */
export function ofCall(
  { model, thinkingLevel, tools }: PromptOptions,
  profile: AgentProfile | undefined,
): PromptOptions {
  return {
    ...(model !== undefined && profile?.model === undefined && { model }),
    ...(thinkingLevel !== undefined && profile?.thinkingLevel === undefined && { thinkingLevel }),
    ...(tools !== undefined && profile === undefined && { tools }),
  };
}

async function openIn(env: SandboxEnv, cwd: string, name: string): Promise<SandboxEnv> {
  const { isDirectory } = await env.stat(cwd);
  if (!isDirectory) throw new InvalidRequestError(`${cwd} is no directory`);
  return env.open({ cwd, name });
}
