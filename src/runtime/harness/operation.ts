import type { Entry } from '../../journal/store.ts';
import type { ResolvedAgent } from '../define/agent.ts';
import type { Emit, EventScope, OperationKind } from '../events/event.ts';
import type { UsageMeter } from '../events/scope.ts';
import type { Step, Steps } from '../run/step.ts';
import type { SandboxEnv } from '../sandbox/env.ts';

/** How deep tasks and actions may be nested. */
export const maxDepth = 4;

/** What work is done with: that of a harness, or of a child session in it. */
export interface Place {
  agent: ResolvedAgent;
  env: SandboxEnv;
  /** How many tasks and actions it is below. */
  depth: number;
  /** Laid under the scope of all events of the work. */
  scope: EventScope;
  /** Of what the work is a part of. */
  meter: UsageMeter;
  /** Gives its calls their positions. */
  steps: Steps;
  /** Of JSON, that a value may have which comes of it. */
  maxValueBytes: number;
}

/** One operation while it runs. */
export interface Operation {
  signal: AbortSignal;
  /** With the scope of the operation. */
  emit: Emit;
  meter: UsageMeter;
  place: Place;
  /** What it is recorded as. */
  step: Step;
}

/** A call with an effect, before it is one. */
export interface Call<Result> {
  kind: OperationKind;
  /** What it is, besides its kind: see `Steps`. */
  about: readonly unknown[];
  /** In its events: of a step, or of the message that it waits for. */
  name?: string;
  /** Default: that of the harness */
  place?: Place;
  /** Of its events. */
  scope?: EventScope;
  options: { signal?: AbortSignal; env?: Record<string, string> };
  /** Throws when the call can't be right. */
  check: () => void;
  work: (operation: Operation) => Promise<Result>;
  /** What its last event says of the result. Default: all of it */
  shown?: (result: Result) => unknown;
  /** What is recorded of the result. Default: all of it */
  recorded?: (result: Result) => unknown;
  /** What is written together with its end. Default: nothing */
  alsoWritten?: (result: Result) => Entry;
  /** The result of an earlier attempt, of what was recorded. Default: that itself */
  restored?: (recorded: unknown) => Result;
  /** It ends by itself before its run or instance comes to rest, and has no parts of its own that could. */
  isWhole?: boolean;
}
