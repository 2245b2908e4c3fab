import {
  type Attributes,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { asksModel, type Ending, type EventOf, type RuntimeEvent } from '../runtime/events/event.ts';
import type { Usage } from '../runtime/model/model.ts';
import { systemInstructions, toMessage } from './messages.ts';

/** Options of `spanWriter`. */
export interface SpanOptions {
  /** What makes the spans. Default: that of the globally registered provider, named `berth` */
  tracer?: Tracer;
  /** Spans have prompts, answers, arguments and results. Default: false */
  content?: boolean;
  /** How many spans are open at once; above it the oldest one is ended. Default: 10,000 */
  maxOpenSpans?: number;
}

/** Spans that are being made of events. */
export interface SpanWriter {
  /** For `runtime.observe`. */
  readonly observer: (event: RuntimeEvent) => void;
  /** Ends the spans that are open, as errors of the type `not_ended`: their last event was not told. */
  end(): void;
}

interface Open {
  span: Span;
  owner: string;
  submissionId: string | undefined;
}

/**
 * Makes OpenTelemetry spans of events, by the semantic conventions for generative AI.
 * @example runtime.observe(spanWriter().observer);
 */
export function spanWriter(options: SpanOptions = {}): SpanWriter {
  const { tracer = trace.getTracer('berth'), content = false, maxOpenSpans = 10_000 } = options;
  /** In the order in which they were started. */
  const open = new Map<string, Open>();

  function start(
    event: RuntimeEvent,
    key: string,
    parents: readonly (string | undefined)[],
    name: string,
    attributes: Attributes,
    kind = SpanKind.INTERNAL,
  ): void {
    const owner = ownerOf(event);
    const parent = parents.map((each) => each && open.get(`${owner} ${each}`)).find((each) => each !== undefined);
    const context = parent ? trace.setSpan(ROOT_CONTEXT, parent.span) : ROOT_CONTEXT;
    const startTime = new Date(event.timestamp);
    const span = tracer.startSpan(name, { kind, startTime, attributes: { ...places(event), ...attributes } }, context);
    open.set(`${owner} ${key}`, { span, owner, submissionId: event.submissionId });
    if (open.size > maxOpenSpans) for (const oldest of [...open.keys()].slice(0, 1)) leave(oldest);
  }

  function end(event: RuntimeEvent & Ending, key: string, attributes: Attributes): void {
    const full = `${ownerOf(event)} ${key}`;
    const found = open.get(full);
    if (!found) return;
    open.delete(full);
    found.span.setAttributes(attributes);
    if (event.isError) {
      found.span.setAttribute('error.type', event.error?.code ?? event.error?.name ?? '_OTHER');
      found.span.setStatus({ code: SpanStatusCode.ERROR, ...(event.error && { message: event.error.message }) });
    }
    found.span.end(new Date(event.timestamp));
  }

  /** Ends a span whose last event does not come. */
  function leave(key: string, time = new Date()): void {
    const found = open.get(key);
    if (!found) return;
    open.delete(key);
    found.span.setAttribute('error.type', 'not_ended');
    found.span.setStatus({ code: SpanStatusCode.ERROR, message: 'Its end was not told.' });
    found.span.end(time);
  }

  /** Of the action and the task that an operation may be in, the inner one: it was started later. */
  function innermost(event: RuntimeEvent): string | undefined {
    const { actionId, taskId } = event;
    const keys = [`action ${actionId}`, `task ${taskId}`];
    if (actionId === undefined || taskId === undefined) return keys[actionId === undefined ? 1 : 0];
    const owner = ownerOf(event);
    const started = [...open.keys()];
    return keys.sort((a, b) => started.indexOf(`${owner} ${b}`) - started.indexOf(`${owner} ${a}`))[0];
  }

  function observer(event: RuntimeEvent): void {
    const root = event.submissionId === undefined ? 'run' : `submission ${event.submissionId}`;
    const operation = `operation ${event.operationId}`;
    const turn = `turn ${event.turnId}`;
    switch (event.type) {
      case 'run_start':
        start(event, 'run', [], `invoke_workflow ${event.workflowName}`, {
          'gen_ai.operation.name': 'invoke_workflow',
          'gen_ai.workflow.name': event.workflowName,
        });
        return;
      case 'run_end':
        leaveAll(event, ({ owner }, key) => owner === ownerOf(event) && key !== `${owner} run`);
        end(event, 'run', { 'berth.run.state': event.state, ...usageOf(event.usage) });
        return;
      case 'submission_start':
        start(event, root, [], `submission ${event.agentName}`, {});
        return;
      case 'submission_settled':
        leaveAll(event, (each, key) => each.submissionId === event.submissionId && key !== `${each.owner} ${root}`);
        end(event, root, { 'berth.submission.outcome': event.outcome, ...usageOf(event.usage) });
        return;
      case 'operation_start': {
        const isAgent = asksModel(event);
        const name = isAgent ? `invoke_agent ${event.agentName ?? ''}`.trim() : event.operationKind;
        start(event, operation, [innermost(event), root], name, {
          'berth.operation.kind': event.operationKind,
          ...(isAgent && { 'gen_ai.operation.name': 'invoke_agent' }),
        });
        return;
      }
      case 'operation':
        end(event, operation, usageOf(event.usage));
        return;
      case 'task_start':
        start(event, `task ${event.taskId}`, [operation, root], `task ${event.agent ?? ''}`.trim(), {
          ...(event.agent !== undefined && { 'berth.task.agent': event.agent }),
          ...(content && { 'berth.task.prompt': event.prompt }),
        });
        return;
      case 'task':
        end(event, `task ${event.taskId}`, usageOf(event.usage));
        return;
      case 'action_start':
        start(event, `action ${event.actionId}`, [toolKey(event), operation, root], `action ${event.action}`, {
          'berth.action.name': event.action,
          ...(event.attempt !== undefined && { 'berth.action.attempt': event.attempt }),
        });
        return;
      case 'action':
        end(event, `action ${event.actionId}`, usageOf(event.usage));
        return;
      case 'turn_start':
        start(event, turn, [operation, root], 'chat', chatAttributes(event), SpanKind.CLIENT);
        return;
      case 'turn_request':
        if (content) {
          open.get(`${ownerOf(event)} ${turn}`)?.span.setAttributes({
            'gen_ai.system_instructions': systemInstructions(event.request.system),
            'gen_ai.input.messages': JSON.stringify(event.request.messages.map((message) => toMessage(message))),
          });
        }
        return;
      case 'turn':
        open.get(`${ownerOf(event)} ${turn}`)?.span.updateName(`chat ${event.request.requestedModel}`);
        end(event, turn, { ...answerAttributes(event), ...(content && outputOf(event)) });
        return;
      case 'retry':
        open.get(`${ownerOf(event)} ${operation}`)?.span.addEvent(
          'retry',
          {
            'berth.retry.attempt': event.attempt,
            'berth.retry.delay_ms': event.delayMs,
            'error.type': event.error.code ?? event.error.name,
          },
          new Date(event.timestamp),
        );
        return;
      case 'tool_start':
        start(event, toolKey(event), [operation, root], `execute_tool ${event.toolName}`, {
          'gen_ai.operation.name': 'execute_tool',
          'gen_ai.tool.name': event.toolName,
          'gen_ai.tool.call.id': event.toolCallId,
          ...(content && { 'gen_ai.tool.call.arguments': JSON.stringify(event.args) }),
        });
        return;
      case 'tool':
        end(event, toolKey(event), content ? { 'gen_ai.tool.call.result': JSON.stringify(event.result) } : {});
        return;
    }
  }

  function leaveAll(event: RuntimeEvent, isLeft: (each: Open, key: string) => boolean): void {
    const left = [...open].filter(([key, each]) => isLeft(each, key)).reverse(); // children first
    for (const [key] of left) leave(key, new Date(event.timestamp));
  }

  return {
    observer,
    end() {
      for (const key of [...open.keys()].reverse()) leave(key);
    },
  };
}

function ownerOf({ runId, instanceId }: RuntimeEvent): string {
  return runId === undefined ? `instance ${instanceId}` : `run ${runId}`;
}

/** The id of a call is that of a model, and only unique within one operation. */
function toolKey({ operationId, toolCallId }: { operationId?: string; toolCallId?: string }): string {
  return `tool ${operationId} ${toolCallId}`;
}

function places(event: RuntimeEvent): Attributes {
  return given({
    'berth.run.id': event.runId,
    'berth.instance.id': event.instanceId,
    'berth.submission.id': event.submissionId,
    'berth.harness': event.harness,
    'berth.session': event.session,
    'gen_ai.conversation.id': event.conversationId,
    'gen_ai.agent.name': event.agentName,
  });
}

function chatAttributes({ purpose }: EventOf<'turn_start'>): Attributes {
  return { 'gen_ai.operation.name': 'chat', 'berth.turn.purpose': purpose };
}

function answerAttributes({ request, response }: EventOf<'turn'>): Attributes {
  return {
    ...given({
      'gen_ai.provider.name': request.providerName,
      'gen_ai.request.model': request.requestedModel,
      'gen_ai.request.max_tokens': request.maxTokens,
      'server.address': request.serverAddress,
      'server.port': request.serverPort,
      'gen_ai.response.id': response.responseId,
      'gen_ai.response.model': response.responseModel,
      'gen_ai.response.finish_reasons': response.finishReason && [response.finishReason],
    }),
    ...usageOf(response.usage),
  };
}

function outputOf({ response }: EventOf<'turn'>): Attributes {
  if (!response.output) return {};
  return { 'gen_ai.output.messages': JSON.stringify([toMessage(response.output)]) };
}

function usageOf(usage: Usage | undefined): Attributes {
  if (!usage) return {};
  return {
    'gen_ai.usage.input_tokens': usage.input,
    'gen_ai.usage.output_tokens': usage.output,
    'gen_ai.usage.cache_read.input_tokens': usage.cacheRead,
    'gen_ai.usage.cache_creation.input_tokens': usage.cacheWrite,
  };
}

function given(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}
