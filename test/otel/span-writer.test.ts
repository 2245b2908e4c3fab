import type { AttributeValue } from '@opentelemetry/api';
import { JsonTraceSerializer } from '@opentelemetry/otlp-transformer';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { expect } from 'vitest';
import { spanWriter } from '../../src/otel/span-writer.ts';
import { defineAction } from '../../src/runtime/define/action.ts';
import { defineAgent } from '../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../src/runtime/events/event.ts';
import type { Runtime } from '../../src/runtime/run/runtime.ts';
import { scriptedModel } from '../../src/testing/scripted-model.ts';
import { inHarness, test } from '../support/runtime.ts';

function tracing(options: { content?: boolean; maxOpenSpans?: number } = {}) {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const writer = spanWriter({ ...options, tracer: provider.getTracer('test') });
  return { ...writer, spans: () => exporter.getFinishedSpans() };
}

/** Each span as the names from the root to it. */
function paths(spans: readonly { name: string; spanId: string; parentSpanId?: string | undefined }[]): string[] {
  const path = (span: (typeof spans)[number]): string => {
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
    return parent ? `${path(parent)} > ${span.name}` : span.name;
  };
  return spans.map(path).sort();
}

function flat(spans: readonly ReadableSpan[]) {
  return spans.map((span) => ({
    name: span.name.replace(/test-\d+/, 'w'),
    spanId: span.spanContext().spanId,
    parentSpanId: span.parentSpanContext?.spanId,
  }));
}

function attribute(spans: readonly ReadableSpan[], name: string, key: string): (AttributeValue | undefined)[] {
  return spans.filter((span) => span.name.startsWith(name)).map(({ attributes }) => attributes[key]);
}

const lookUp = defineAction({
  name: 'look_up',
  description: 'Looks up.',
  run: async ({ harness }) => (await harness.shell('echo found')).stdout,
});
const turns = [
  {
    toolCalls: [{ name: 'bash', input: { command: 'echo secret-text' } }, { name: 'look_up' }],
    usage: { input: 7, output: 3 },
  },
  'Done.',
];
async function prompted(runtime: Runtime, text: string) {
  const workflow = defineWorkflow({
    name: 'w',
    agent: defineAgent(() => ({ model: scriptedModel(turns), actions: [lookUp] })),
    run: async ({ harness }) => (await (await harness.session()).prompt(text)).text,
  });
  await (await runtime.invoke(workflow)).result();
}
const tree = [
  'invoke_workflow w',
  'invoke_workflow w > invoke_agent',
  'invoke_workflow w > invoke_agent > chat scripted',
  'invoke_workflow w > invoke_agent > chat scripted',
  'invoke_workflow w > invoke_agent > execute_tool bash',
  'invoke_workflow w > invoke_agent > execute_tool look_up',
  'invoke_workflow w > invoke_agent > execute_tool look_up > action look_up',
  'invoke_workflow w > invoke_agent > execute_tool look_up > action look_up > shell',
  'invoke_workflow w > invoke_agent > execute_tool look_up > action look_up > shell > execute_tool bash',
];

test('a run is a tree: operations, requests, tools side by side, an action below its call', async ({ runtime }) => {
  const { observer, spans } = tracing();
  runtime.observe(observer);
  await prompted(runtime, 'secret-text');
  expect(paths(flat(spans()))).toEqual(tree);
  expect(attribute(spans(), 'chat', 'gen_ai.usage.input_tokens')).toEqual([7, 0]);
  expect(attribute(spans(), 'chat', 'gen_ai.response.finish_reasons')).toEqual([['tool-calls'], ['stop']]);
  expect(JSON.stringify(spans().map(({ attributes }) => attributes))).not.toContain('secret-text');
  const sent = JSON.parse(new TextDecoder().decode(JsonTraceSerializer.serializeRequest(spans())));
  const received: { name: string; spanId: string; parentSpanId?: string; attributes: { key: string }[] }[] =
    sent.resourceSpans[0].scopeSpans[0].spans;
  expect(paths(received.map((span) => ({ ...span, name: span.name.replace(/test-\d+/, 'w') })))).toEqual(tree);
  expect(received.find(({ name }) => name.startsWith('chat'))?.attributes).toContainEqual({
    key: 'gen_ai.usage.input_tokens',
    value: { intValue: 7 },
  });
});

test('messages, arguments and results are in the spans when asked for', async ({ runtime }) => {
  const { observer, spans } = tracing({ content: true });
  runtime.observe(observer);
  await prompted(runtime, 'a question');
  expect(attribute(spans(), 'chat', 'gen_ai.input.messages')[0]).toContain('a question');
  expect(attribute(spans(), 'chat', 'gen_ai.output.messages')[1]).toContain('Done.');
  expect(attribute(spans(), 'execute_tool', 'gen_ai.tool.call.arguments')).toContain('{"command":"echo secret-text"}');
});

test('what failed or was aborted has the error as its status', async ({ runtime }) => {
  const { observer, spans } = tracing();
  runtime.observe(observer);
  await inHarness(runtime, [{ error: { message: 'no', status: 400 } }], async (harness) => {
    const session = await harness.session();
    await session.prompt('x').catch(() => {});
    await session.prompt('x', { signal: AbortSignal.abort() }).catch(() => {});
    const stop = new AbortController();
    const command = session.shell('sleep 1000', { signal: stop.signal });
    stop.abort();
    await command.catch(() => {});
  });
  expect(attribute(spans(), 'chat', 'error.type')).toEqual(['ModelRequestError']);
  expect(attribute(spans(), 'shell', 'error.type')).toEqual(['AbortError']);
  expect(attribute(spans(), 'invoke_workflow', 'error.type')).toEqual([undefined]);
});

test('a task is in the prompt that gave it, or in the operation of code, and its own work in it', async ({
  runtime,
}) => {
  const { observer, spans } = tracing({ content: true });
  runtime.observe(observer);
  const reader = { name: 'reader', description: 'Reads.', model: scriptedModel(['Read.', 'Read again.']) };
  const model = scriptedModel([
    { toolCalls: [{ name: 'task', input: { prompt: 'Read it.', agent: 'reader' } }] },
    'Done.',
  ]);
  const workflow = defineWorkflow({
    name: 'w',
    agent: defineAgent(() => ({ model, subagents: [reader] })),
    run: async ({ harness }) => {
      const session = await harness.session();
      await session.prompt('Go.');
      await session.task('Read more.', { agent: 'reader' });
    },
  });
  await (await runtime.invoke(workflow)).result();
  expect(paths(flat(spans()))).toEqual([
    'invoke_workflow w',
    'invoke_workflow w > invoke_agent',
    'invoke_workflow w > invoke_agent > chat scripted',
    'invoke_workflow w > invoke_agent > chat scripted',
    'invoke_workflow w > invoke_agent > execute_tool task',
    'invoke_workflow w > invoke_agent > task reader',
    'invoke_workflow w > invoke_agent > task reader > invoke_agent',
    'invoke_workflow w > invoke_agent > task reader > invoke_agent > chat scripted',
    'invoke_workflow w > task',
    'invoke_workflow w > task > task reader',
    'invoke_workflow w > task > task reader > invoke_agent',
    'invoke_workflow w > task > task reader > invoke_agent > chat scripted',
  ]);
  expect(attribute(spans(), 'task reader', 'berth.task.agent')).toEqual(['reader', 'reader']);
  expect(attribute(spans(), 'task reader', 'berth.task.prompt')).toEqual(['Read it.', 'Read more.']);
});

test('a message to an agent instance is a root of its own, with its outcome', async ({ runtime }) => {
  const { observer, spans } = tracing();
  runtime.observe(observer);
  const helper = (name: string) => {
    const usage = { input: 5, output: 2 };
    const model = scriptedModel([
      { text: 'Done.', usage },
      { error: { message: 'no', status: 400 }, usage },
    ]);
    return defineAgent(() => ({ model }), { name });
  };
  const first = helper('first');
  const receipts = [];
  for (const agent of [first, helper('second'), first]) {
    receipts.push(await runtime.dispatch(agent, { instance: 'i', message: 'Go.' }));
  }
  await Promise.allSettled(receipts.map((receipt) => receipt.result()));
  const tree = (name: string) => [
    `submission ${name}`,
    `submission ${name} > invoke_agent ${name}`,
    `submission ${name} > invoke_agent ${name} > chat scripted`,
  ];
  expect(paths(flat(spans()))).toEqual([...tree('first'), ...tree('first'), ...tree('second')].sort());
  expect(attribute(spans(), 'submission first', 'berth.submission.outcome')).toEqual(['completed', 'failed']);
  expect(attribute(spans(), 'submission first', 'error.type')).toEqual([undefined, 'operation_failed']);
  expect(attribute(spans(), 'submission first', 'gen_ai.usage.input_tokens')).toEqual([5, 5]);
  expect(attribute(spans(), 'submission', 'berth.instance.id')).toEqual(['i', 'i', 'i']);
});

test('when the runtime is closed every span has ended, as what became of its work', async ({ runtime }) => {
  const { observer, end, spans } = tracing();
  runtime.observe(observer);
  let left = 2;
  const atWork = new Promise<void>((resolve) => {
    runtime.observe(({ type }) => {
      if (type === 'tool_output' && --left === 0) resolve();
    });
  });
  const sleeps = { name: 'bash', input: { command: 'echo begun; exec sleep 1302' } };
  const agent = defineAgent(() => ({ model: scriptedModel([{ toolCalls: [sleeps] }]) }), { name: 'sleeper' });
  await runtime.invoke(
    defineWorkflow({
      name: 'w',
      agent,
      run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
    }),
  );
  await runtime.dispatch(agent, { instance: 'i', message: 'Go.' });
  await runtime.dispatch(agent, { instance: 'i', message: 'Never begun.' });
  await atWork;
  await runtime.close();
  const ended = spans();
  end();
  expect(spans()).toHaveLength(ended.length);
  expect(paths(flat(ended))).toEqual([
    'invoke_workflow w',
    'invoke_workflow w > invoke_agent',
    'invoke_workflow w > invoke_agent > chat scripted',
    'invoke_workflow w > invoke_agent > execute_tool bash',
    'submission sleeper',
    'submission sleeper > invoke_agent sleeper',
    'submission sleeper > invoke_agent sleeper > chat scripted',
    'submission sleeper > invoke_agent sleeper > execute_tool bash',
  ]);
  expect(attribute(ended, 'invoke_workflow', 'berth.run.state')).toEqual(['cancelled']);
  expect(attribute(ended, 'submission', 'berth.submission.outcome')).toEqual(['aborted']);
  expect(attribute(ended, 'invoke_agent', 'error.type')).toEqual(['AbortError', 'AbortError']);
});

const start = (runId: string): RuntimeEvent => ({
  type: 'run_start',
  v: 1,
  eventIndex: 0,
  timestamp: new Date(0).toISOString(),
  runId,
  workflowName: runId,
  startedAt: new Date(0).toISOString(),
});

test('open spans are ended as not ended, children first', () => {
  const { observer, end, spans } = tracing();
  observer(start('r'));
  observer({ ...start('r'), type: 'operation_start', operationKind: 'shell', operationId: 'o' } as RuntimeEvent);
  expect(spans()).toEqual([]);
  end();
  expect(spans().map(({ name, attributes }) => [name, attributes['error.type']])).toEqual([
    ['shell', 'not_ended'],
    ['invoke_workflow r', 'not_ended'],
  ]);
  end();
  expect(spans()).toHaveLength(2);
});

test('at most maxOpenSpans are open: the oldest is ended', () => {
  const { observer, spans } = tracing({ maxOpenSpans: 2 });
  for (const id of ['a', 'b', 'c']) observer(start(id));
  expect(spans().map(({ name }) => name)).toEqual(['invoke_workflow a']);
});
