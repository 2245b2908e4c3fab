import { pino } from 'pino';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { defineAction } from '../../src/runtime/define/action.ts';
import { defineAgent } from '../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../src/runtime/events/event.ts';
import { createRuntime } from '../../src/runtime/run/runtime.ts';
import type { SandboxFactory } from '../../src/runtime/sandbox/env.ts';
import { scriptedModel } from '../../src/testing/scripted-model.ts';
import { eventsOf, ofType } from '../support/runtime.ts';

const summarizeDocument = defineAction({
  name: 'summarize_document',
  description: 'Summarizes a text in one sentence.',
  input: v.object({ text: v.string() }),
  output: v.object({ summary: v.string() }),
  async run({ harness, input, log }) {
    log.info('Summarizing', { characters: input.text.length });
    const session = await harness.session();
    const { text } = await session.prompt(`Summarize this text:\n${input.text}`);
    return { summary: text };
  },
});

/** The smallest program of the runtime, in any sandbox. */
export function smallestProgram(name: string, sandbox: () => SandboxFactory): void {
  const open = () => createRuntime({ store: ':memory:', sandbox: sandbox(), logger: pino({ level: 'silent' }) });

  describe(`the smallest program in ${name}`, () => {
    // contract: 2-bound-root, 1.7-not-offered, 7.1-order
    // contract: 1.2-promise
    test('an action bound to a workflow runs in the root harness and gives its validated output', async () => {
      await using runtime = await open();
      const model = scriptedModel(['A short one.']);
      const workflow = defineWorkflow({ agent: defineAgent(() => ({ model })), action: summarizeDocument });
      const run = await runtime.invoke(workflow, { input: { text: 'A long text.' } });
      expect(await run.result()).toEqual({ summary: 'A short one.' });
      expect(model.requests).toHaveLength(1);
      // Binding an action does not offer it to the model.
      expect(model.requests[0]?.tools.map(({ name }) => name)).not.toContain('summarize_document');

      const events = await eventsOf(run);
      expect(events[0]).toMatchObject({ type: 'run_start', workflowName: 'summarize_document', runId: run.id });
      expect(events.at(-1)).toMatchObject({ type: 'run_end', state: 'completed', result: { summary: 'A short one.' } });
      expect(events.map(({ eventIndex }) => eventIndex)).toEqual(events.map((_, i) => i));
      expect(ofType(events, 'log')).toMatchObject([
        { level: 'info', message: 'Summarizing', attributes: { characters: 12 }, harness: 'default' },
      ]);
    });

    // contract: 2-child-sessions, 2-child-files, 2-model-json, 1.6-actions, 2-child-scope
    test('an action given to an agent is a tool whose sessions are its own and whose files are the parent’s', async () => {
      await using runtime = await open();
      const model = scriptedModel([
        { toolCalls: [{ name: 'write', input: { path: 'notes.txt', content: 'from the parent' } }] },
        { toolCalls: [{ name: 'summarize_document', input: { text: 'A long text.' } }] },
        // The child's first turn.
        { toolCalls: [{ name: 'bash', input: { command: 'cat notes.txt && echo child > child.txt' } }] },
        'The child read it.',
        'Done by the parent.',
      ]);
      const agent = defineAgent(() => ({ model, actions: [summarizeDocument] }));
      const workflow = defineWorkflow({
        name: 'parent',
        agent,
        run: async ({ harness }) => {
          const result = await (await harness.session()).prompt('Summarize it.');
          return {
            text: result.text,
            parents: await harness.fs.readFile('notes.txt'),
            childs: await harness.fs.readFile('child.txt'),
          };
        },
      });
      const run = await runtime.invoke(workflow);
      expect(await run.result()).toEqual({
        text: 'Done by the parent.',
        parents: 'from the parent',
        childs: 'child\n',
      });

      const [, , childRequest, childSecond, last] = model.requests;
      // The child's conversation starts empty, and the parent sees the compact JSON of the output only.
      expect(childRequest?.messages).toHaveLength(1);
      expect(JSON.stringify(childSecond?.messages)).toContain('from the parent');
      expect(last?.messages.at(-1)).toMatchObject({
        role: 'tool',
        toolName: 'summarize_document',
        content: [{ type: 'text', text: '{"summary":"The child read it."}' }],
      });

      const events = await eventsOf(run);
      const conversations = new Set(ofType(events, 'turn_start').map(({ conversationId }) => conversationId));
      expect(conversations.size).toBe(2);
      const [started] = ofType(events, 'action_start');
      expect(started).toMatchObject({
        action: 'summarize_document',
        toolCallId: expect.any(String),
        harness: 'default',
      });
      const [log] = ofType(events, 'log');
      expect(log).toMatchObject({
        harness: `action:${started?.actionId}`,
        attributes: { action: 'summarize_document', toolCallId: started?.toolCallId },
      });
    });

    // contract: 2-child-sessions, 7.2-own-conversation, 8-scope
    test('an agent instance calls it for a message that was dispatched: own sessions, the same files', async () => {
      await using runtime = await open();
      const model = scriptedModel([
        { toolCalls: [{ name: 'write', input: { path: 'notes.txt', content: 'from the parent' } }] },
        { toolCalls: [{ name: 'summarize_document', input: { text: 'A long text.' } }] },
        { toolCalls: [{ name: 'bash', input: { command: 'cat notes.txt; echo child > child.txt' } }] },
        'The child read it.',
        { toolCalls: [{ name: 'read', input: { path: 'child.txt' } }] },
        'Done by the parent.',
      ]);
      const assistant = defineAgent(() => ({ model, actions: [summarizeDocument] }), { name: 'assistant' });
      const events: RuntimeEvent[] = [];
      runtime.observe((event) => events.push(event));
      const receipt = await runtime.dispatch(assistant, { instance: 'one', message: 'Summarize it.' });
      expect((await receipt.result()).text).toBe('Done by the parent.');

      const [, , child, childAgain, parent, last] = model.requests.map(({ messages }) => messages);
      expect(child).toMatchObject([{ role: 'user', content: [{ text: 'Summarize this text:\nA long text.' }] }]);
      expect(JSON.stringify(childAgain)).toContain('from the parent');
      // The parent sees what the action gave, and nothing of the conversation that gave it.
      expect(JSON.stringify(parent)).toContain('The child read it.');
      expect(JSON.stringify(parent)).not.toContain('Summarize this text');
      expect(last?.at(-1)).toMatchObject({ toolName: 'read', content: [{ text: 'child\n' }] });

      const sessions = ofType(events, 'turn_start').map(({ harness, session }) => [harness, session]);
      const [{ actionId = '' } = {}] = ofType(events, 'action_start');
      const [own, childs] = [
        ['default', 'default'],
        [`action:${actionId}`, 'default'],
      ];
      expect(sessions).toEqual([own, own, childs, childs, own, own]);
      expect(ofType(events, 'log')).toMatchObject([{ message: 'Summarizing', submissionId: receipt.submissionId }]);
      expect(ofType(events, 'submission_settled')).toMatchObject([{ outcome: 'completed', instanceId: 'one' }]);
    });

    // contract: 2-model-input-issues, 2-caller-goes-on
    test('a wrong input of a model is a tool error that names each path and asks for another call', async () => {
      await using runtime = await open();
      const model = scriptedModel([{ toolCalls: [{ name: 'summarize_document', input: { text: 5 } }] }, 'I can not.']);
      const agent = defineAgent(() => ({ model, actions: [summarizeDocument] }));
      const workflow = defineWorkflow({
        name: 'parent',
        agent,
        run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
      });
      expect(await (await runtime.invoke(workflow)).result()).toBe('I can not.');
      const [message] = model.requests[1]?.messages.slice(-1) ?? [];
      expect(message).toMatchObject({ role: 'tool', isError: true });
      expect(JSON.stringify(message)).toMatch(/input\.text: .*Call it again/);
    });
  });
}
