import type { RecordedError } from '../events/event.ts';
import type { Usage } from '../model/model.ts';
import type { JsonValue } from '../schema/snapshot.ts';

/** The last three are final. */
export type RunState = 'queued' | 'running' | 'completed' | 'failed' | 'cancelled';

/** What is known of a run. Times are ISO 8601. */
export interface RunRecord {
  runId: string;
  workflowName: string;
  state: RunState;
  /** The run that it was started within. */
  parent?: string;
  /** When it was accepted. */
  createdAt: string;
  startedAt?: string;
  endedAt?: string;
  /** From the start to the end; of a run that never started, from its acceptance. */
  durationMs?: number;
  /** As it was given, before the schema. */
  input?: JsonValue;
  /** `null` for none. */
  result?: JsonValue;
  error?: RecordedError;
  /** Of all models, so far. */
  usage: Usage;
}

export function isFinal(state: RunState): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled';
}
