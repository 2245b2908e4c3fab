import type { NetworkDecision } from '../../sandbox/index.ts';
import type {
  AssistantMessage,
  FinishReason,
  Message,
  ModelTool,
  ThinkingLevel,
  ToolMessage,
  Usage,
  UserMessage,
} from '../model/model.ts';

/** An error as events and records hold it: no stack, no cause. */
export interface RecordedError {
  /** Of its class, as in `ActionTimeoutError`. */
  name: string;
  /** Of an error of ours, as in `action_timeout`. */
  code?: string;
  message: string;
  /** Of an error of ours: the text that any caller may see. */
  details?: string;
  /** Of an error of ours: the fields that its class documents. */
  meta?: unknown;
}

/** Fields of every event that ends something. */
export interface Ending {
  /** From its start to its end. */
  durationMs: number;
  /** It failed or was aborted. */
  isError: boolean;
  /** Why, where there is an error for it. */
  error?: RecordedError;
  /** Of the models that were asked in it. */
  usage?: Usage;
}

/** What an operation is: `shell` is also that of a harness, `action` a `harness.run`. */
export type OperationKind =
  | 'prompt'
  | 'skill'
  | 'task'
  | 'shell'
  | 'compact'
  | 'action'
  | 'attempt'
  | 'checkpoint'
  | 'rollback'
  | 'step'
  | 'sleep'
  | 'wait';

/** A model works in it itself: of a task, it does in the prompt of the child session. */
export function asksModel({ operationKind }: { operationKind: OperationKind }): boolean {
  return operationKind === 'prompt' || operationKind === 'skill';
}

/** Why a model was asked: for the work itself, or for a summary of a conversation or of the beginning of a turn. */
export type TurnPurpose = 'agent' | 'compaction' | 'compaction_prefix';

/** What was asked of a model, without the input itself. */
export interface TurnRequest {
  /** What stands before the slash of the model's name. */
  providerId: string;
  /** The same as `providerId`. */
  providerName: string;
  /** What stands behind the slash. */
  requestedModel: string;
  /** The wire format; `custom` where the model does not say. */
  api: string;
  /** Where the request went, as far as the model says. */
  serverAddress?: string;
  /** Left out for the usual one of its protocol. */
  serverPort?: number;
  reasoningLevel?: ThinkingLevel;
  /** Tokens that the answer may have. Left out when not known */
  maxTokens?: number;
}

/** All that a model was asked, images aside. */
export interface FullTurnRequest extends TurnRequest {
  system: string;
  messages: Message[];
  tools: ModelTool[];
}

/** What a model answered. */
export interface TurnResponse {
  responseId?: string;
  responseModel?: string;
  /** What the model said; left out when it said nothing. */
  output?: AssistantMessage;
  usage?: Usage;
  finishReason?: FinishReason;
  error?: RecordedError;
}

/** What became of a container, or what was decided of a connection that a program in it asked for. */
export type SandboxEvent =
  | { sandboxId: string; kind: 'created' | 'found' | 'kept' | 'removed' }
  | ({ sandboxId: string; kind: 'network' } & NetworkDecision);

/** The own fields of an event: what the code that emits it says. The fields that all events share are added to it. */
export type EventBody =
  | { type: 'run_start'; workflowName: string; startedAt: string; input?: unknown }
  | { type: 'run_suspend'; reason: string }
  | { type: 'run_resume'; attempt: number }
  | ({ type: 'run_end'; state: 'completed' | 'failed' | 'cancelled'; result?: unknown } & Ending)
  | { type: 'submission_start'; kind: 'dispatch' }
  | ({ type: 'submission_settled'; outcome: 'completed' | 'failed' | 'aborted'; result?: unknown } & Ending)
  /** `name` is that of a step, or of the message that is waited for. */
  | { type: 'operation_start'; operationKind: OperationKind; name?: string }
  | ({ type: 'operation'; operationKind: OperationKind; name?: string; result?: unknown } & Ending)
  | { type: 'idle' }
  | { type: 'agent_start' }
  | ({ type: 'agent_end' } & Ending)
  | { type: 'turn_start'; purpose: TurnPurpose }
  | { type: 'turn_request'; purpose: TurnPurpose; request: FullTurnRequest }
  | ({ type: 'turn'; purpose: TurnPurpose; request: TurnRequest; response: TurnResponse } & Ending)
  | { type: 'turn_messages'; purpose: TurnPurpose; message: AssistantMessage; toolResults: ToolMessage[] }
  | { type: 'message_start'; message: UserMessage | AssistantMessage }
  | { type: 'message_end'; message: UserMessage | AssistantMessage }
  | { type: 'text_delta'; text: string }
  | { type: 'thinking_start'; contentIndex: number }
  | { type: 'thinking_delta'; contentIndex: number; delta: string }
  | { type: 'thinking_end'; contentIndex: number; content: string }
  | { type: 'tool_start'; toolName: string; toolCallId: string; args: unknown }
  | ({ type: 'tool'; toolName: string; toolCallId: string; result?: unknown } & Ending)
  | { type: 'tool_output'; toolCallId: string; stream: 'stdout' | 'stderr'; text: string }
  | { type: 'task_start'; agent?: string; prompt: string; cwd?: string }
  | ({ type: 'task'; agent?: string; result?: unknown } & Ending)
  /** `attempt` is the number of one of those of a `harness.attempt`, whose `action` is `attempt`. */
  | { type: 'action_start'; action: string; toolCallId?: string; attempt?: number }
  | ({ type: 'action'; action: string; toolCallId?: string; attempt?: number; result?: unknown } & Ending)
  | { type: 'compaction_start'; reason: 'threshold' | 'overflow' | 'manual'; estimatedTokens: number }
  | ({ type: 'compaction'; messagesBefore: number; messagesAfter: number } & Ending)
  | { type: 'retry'; attempt: number; delayMs: number; error: RecordedError }
  | { type: 'log'; level: 'info' | 'warn' | 'error'; message: string; attributes?: Record<string, unknown> }
  | { type: 'data'; name: string; id?: string; data: unknown }
  | ({ type: 'sandbox' } & SandboxEvent);

/** Where in the tree of a run or instance an event happened. */
export interface EventScope {
  /** The message to an agent instance that is worked on. */
  submissionId?: string;
  /** The call of `dispatch` that brought it. */
  dispatchId?: string;
  /** `default`, or `action:<actionId>` in a child harness. */
  harness?: string;
  session?: string;
  /** Of the session: one that is made under the name of a deleted one has another. */
  conversationId?: string;
  /** The session that a task was given by. */
  parentSession?: string;
  /** The call of code that it is a part of: a prompt, a command, a step. */
  operationId?: string;
  /** The request to a model, with the tool calls of its answer. */
  turnId?: string;
  taskId?: string;
  /** The call of an action. */
  actionId?: string;
}

/** Adds an event to those of a run or instance. The scope is that of the emitter, with `scope` laid over it. */
export type Emit = (body: EventBody, scope?: EventScope) => void;

interface EventHead extends EventScope {
  /** The version of the shape of events. Readers refuse another. */
  v: 1;
  /**
   * From 0, one sequence per run or instance, without gap or repeat. A `turn_request` is only told to observers and not
   * kept: it has the number of the event before it.
   */
  eventIndex: number;
  /** ISO 8601. */
  timestamp: string;
  /** Of a run. */
  runId?: string;
  /** Of an agent instance: the id that the application chose. */
  instanceId?: string;
  /** Of an agent instance. */
  agentName?: string;
}

/** One thing that happened in a run or in an agent instance. */
export type RuntimeEvent = EventHead & EventBody;

/** The event of one type: `EventOf<'tool_start'>` is what a `RuntimeEvent` is whose `type` is `tool_start`. */
export type EventOf<Type extends EventBody['type']> = Extract<RuntimeEvent, { type: Type }>;

/** Stands where the bytes of an image were: events and records never hold them. */
export const IMAGE_DATA_OMITTED = '<image data omitted>';
