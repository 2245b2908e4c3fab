import type { ExecResult } from '../../sandbox/process/result.ts';
import { recordedError } from '../events/recorded-error.ts';
import type { ShellOptions } from '../harness/harness.ts';
import type { Operation } from '../harness/operation.ts';
import { recordedShell, shellArguments } from '../harness/shell.ts';
import { keepOutput } from '../tools/bash.ts';
import { say } from './conversation.ts';
import type { OpenSession } from './open-session.ts';

/** Runs a command and keeps it as a user's message with a call and its result, so that the model knows what was done. */
export async function runShell(
  { harness, conversation }: OpenSession,
  command: string,
  options: ShellOptions,
  operation: Operation,
): Promise<ExecResult> {
  const { emit, signal, place, step } = operation;
  const toolCallId = step.id('call');
  const input = JSON.stringify(shellArguments(command, options));
  const told = { type: 'text', text: `I ran a command:\n${command}` } as const;
  const call = { type: 'tool-call', toolCallId, toolName: 'bash', input } as const;
  // Of an earlier attempt, which was interrupted.
  const before = step.isResumed
    ? (await conversation.records()).filter((each) => each.operationId === step.id('op'))
    : [];
  const isNew = (type: string) => !before.some((record) => record.type === type);
  if (isNew('user')) await say(conversation, { role: 'user', content: [told] }, emit);
  if (isNew('assistant')) {
    await say(conversation, { role: 'assistant', content: [call], finishReason: 'tool-calls' }, emit);
  }
  const record = async (text: string, isError: boolean) => {
    const content = [{ type: 'text', text } as const];
    const message = { role: 'tool' as const, toolCallId, toolName: 'bash', content, isError };
    if (isNew('tool')) await conversation.append({ type: 'tool', message });
  };
  try {
    const { shared } = harness.parts;
    const keep = (output: string) => keepOutput({ env: place.env, shared }, output);
    const { result, text } = await recordedShell(place.env, command, options, operation, { toolCallId, keep });
    await record(text, false);
    return result;
  } catch (error) {
    const interrupted = 'Interrupted while the command was running: its outcome is unknown.';
    await record(signal.aborted ? interrupted : recordedError(error).message, true);
    throw error;
  }
}
