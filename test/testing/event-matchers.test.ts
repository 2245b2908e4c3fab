import { expect, test } from 'vitest';
import type { RuntimeEvent } from '../../src/runtime/events/event.ts';
import { type EventMatchers, eventMatchers } from '../../src/testing/index.ts';

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: as vitest declares it
  interface Matchers<T = any> extends EventMatchers<T> {}
}

expect.extend(eventMatchers);

const head = { v: 1, eventIndex: 0, timestamp: '' } as const;
const events: RuntimeEvent[] = [
  { ...head, type: 'run_start', workflowName: 'w', startedAt: '' },
  { ...head, type: 'tool_start', toolName: 'bash', toolCallId: 'c', args: { command: 'ls', options: [1, 2] } },
  { ...head, type: 'tool', toolName: 'bash', toolCallId: 'c', durationMs: 1, isError: false },
  { ...head, type: 'run_end', state: 'completed', durationMs: 1, isError: false },
];
const boom = { name: 'Error', message: 'boom' };
const failed: RuntimeEvent = { ...head, type: 'run_end', state: 'failed', durationMs: 1, isError: true, error: boom };

test('a call of a tool is found by its name and a part of its input', () => {
  expect(events).toHaveCalledTool('bash');
  expect(events).toHaveCalledTool('bash', { command: expect.stringContaining('l') });
  expect(events).not.toHaveCalledTool('bash', { options: [1] });
  expect(() => expect(events).toHaveCalledTool('read')).toThrow('a call of read; calls:\n  bash {"command":"ls"');
});

test('events are found in their order, others between them', () => {
  expect(events).toHaveEventsInOrder(['run_start', { type: 'tool', toolName: 'bash' }, 'run_end']);
  expect(() => expect(events).toHaveEventsInOrder(['tool', 'tool_start'])).toThrow(
    'expected event 2 of 2, "tool_start"',
  );
});

test('a run that has not completed is told with its error', () => {
  expect(events).toHaveCompleted();
  expect(() => expect([failed]).toHaveCompleted()).toThrow('it is failed: Error: boom');
  expect(() => expect(events.slice(0, 2)).toHaveCompleted()).toThrow('it has not ended');
});
