import type { RecordedError } from '../events/event.ts';
import type { Usage } from '../model/model.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import type { OwnerJournal } from './owner-journal.ts';
import type { Progress, RunRecord } from './record.ts';

/**
 * Writes the end of a run: its last event and its record together, so that nobody finds the one without the other. It is
 * under way when this returns.
 */
export function writeEnd(
  journal: OwnerJournal,
  { createdAt, startedAt }: RunRecord,
  state: 'completed' | 'failed' | 'cancelled',
  given: { usage: Usage } & ({ result: JsonValue } | { error: RecordedError }),
): { progress: Progress; written: Promise<void> } {
  const ending = journal.masker.value(given); // also what is told of it without the store
  const endedAt = new Date();
  const durationMs = endedAt.getTime() - Date.parse(startedAt ?? createdAt);
  const progress: Progress = {
    ...(startedAt !== undefined && { startedAt }),
    endedAt: endedAt.toISOString(),
    durationMs,
    ...ending,
  };
  journal.emit({ type: 'run_end', state, isError: state !== 'completed', durationMs, ...ending });
  journal.put({ kind: 'run', state, progress: JSON.stringify(progress) });
  return { progress, written: journal.close() };
}
