import type { RunRow, RunState } from '../../journal/store.ts';
import type { RecordedError } from '../events/event.ts';
import type { Usage } from '../model/model.ts';
import { noUsage } from '../model/usage.ts';
import type { JsonValue } from '../schema/snapshot.ts';

export type { RunState };

/** What is known of a run. Times are ISO 8601. */
export interface RunRecord {
  runId: string;
  /** That it was registered under, else its own name. */
  workflowName: string;
  /** The last three are final; nobody works on one that is `suspended`. */
  state: RunState;
  /** How often it was started, or taken up again; 0 while it is queued. */
  attempt: number;
  /** The run that it was started within. */
  parent?: string;
  /** The model that it was invoked with in place of that of its agent: `provider/model`. */
  model?: string;
  /** When it was accepted. */
  createdAt: string;
  /** Left out while it is queued, and of one that was cancelled then. */
  startedAt?: string;
  /** Left out until it has ended. */
  endedAt?: string;
  /** Milliseconds from the start to the end; of a run that never started, from its acceptance. */
  durationMs?: number;
  /** As it was given, before the schema. */
  input?: JsonValue;
  /** `null` for none. Left out until it is completed. */
  result?: JsonValue;
  /** Of one that failed or was cancelled. */
  error?: RecordedError;
  /** Of all models, so far. */
  usage: Usage;
}

/** What never changes of a run, as the store keeps it. */
export type Admitted = Pick<RunRecord, 'createdAt' | 'input' | 'parent' | 'model'>;

/** What changes. */
export type Progress = Pick<RunRecord, 'startedAt' | 'endedAt' | 'durationMs' | 'result' | 'error' | 'usage'> & {
  /** Of one that has not ended. */
  attempts?: Attempts;
  /** It was brought to rest: the time until it goes on does not count. */
  isSuspended?: boolean;
  /** Why, where it was asked to be cancelled. */
  cancelled?: { reason?: string };
};

/** What is known of the attempts of a run so far. */
export interface Attempts {
  /** In a row without a new step, the last one included. */
  count: number;
  /** The fence of the last one, and when it was begun: ms since 1970. */
  fence: number;
  begunAt: number;
  /** Milliseconds that those before it have taken. */
  spentMs: number;
}

export function isFinal(state: RunState): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled';
}

export function recordOf({ id, workflow, state, attempt, json, progress }: RunRow): RunRecord {
  const admitted = JSON.parse(json) as Admitted; // `invoke` wrote it
  const { attempts: _, isSuspended: __, cancelled: ___, ...made } = progressOf({ progress });
  return { runId: id, workflowName: workflow, state, attempt: state === 'queued' ? 0 : attempt, ...admitted, ...made };
}

export function progressOf({ progress }: { progress?: string | undefined }): Progress {
  return progress === undefined ? { usage: noUsage() } : (JSON.parse(progress) as Progress); // it was written here
}
