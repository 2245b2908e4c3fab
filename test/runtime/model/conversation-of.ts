import type { EventBody, EventScope } from '../../../src/runtime/events/event.ts';
import { type LoopOptions, runLoop } from '../../../src/runtime/model/loop.ts';
import type { Message, Model } from '../../../src/runtime/model/model.ts';
import { type LoopTool, modelTool, textResult } from '../../../src/runtime/model/tool.ts';

/** Runs the loop as a session does: one user message, every message kept, every event noted. Only `realWaits` take time. */
export function converse(model: Model, options: Partial<LoopOptions> & { realWaits?: boolean } = {}) {
  const { realWaits = false, ...rest } = options;
  const messages: Message[] = [{ role: 'user', content: [{ type: 'text', text: 'Do it.' }] }];
  const events: (EventBody & EventScope)[] = [];
  const waits: number[] = [];
  const result = runLoop({
    model,
    preamble: () => ({ system: 'You are a test.', tools: (options.tools ?? []).map(modelTool) }),
    tools: [],
    thinkingLevel: 'medium',
    operation: 'prompt',
    signal: new AbortController().signal,
    context: () => messages,
    record: (message) => {
      messages.push(message);
    },
    emit: (body, scope) => events.push({ ...body, ...scope }),
    ...(!realWaits && {
      sleep: async (ms) => {
        waits.push(ms);
      },
    }),
    ...rest,
  });
  return { result, messages, events, waits };
}

/** A tool that answers with what `run` gives. */
export function tool(
  name: string,
  run: (input: unknown, context: Parameters<LoopTool['run']>[1]) => string | Promise<string>,
  more: Partial<LoopTool> = {},
): LoopTool {
  return {
    name,
    description: name,
    parameters: { type: 'object' },
    run: async (input, context) => textResult(await run(input, context)),
    ...more,
  };
}

/** A promise and what settles it: `Promise.withResolvers` of later versions of Node. */
export function gate<T = void>() {
  let open: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}
