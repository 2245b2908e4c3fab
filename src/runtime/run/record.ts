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
  createdAt: string;
  startedAt?: string;
  endedAt?: string;
  durationMs?: number;
  input?: JsonValue;
  /** `null` for none. */
  result?: JsonValue;
  error?: RecordedError;
  usage: Usage;
}

export function isFinal(state: RunState): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled';
}
