import { BerthError } from '../errors.ts';

/** Which recording can't be used, and why. */
interface BadRecording {
  file: string;
  /** As the end of a sentence. */
  problem: string;
}

/** A recording can't be read, or what was recorded is not whole and so was not written. */
export class RecordingError extends BerthError<BadRecording> {
  static {
    RecordingError.prototype.name = 'RecordingError';
  }
  readonly code = 'recording';
  constructor(meta: BadRecording, options?: ErrorOptions & { hint?: string }) {
    super(`Recording ${meta.file} ${meta.problem}.`, meta, options);
  }
}

/** Which recording does not fit, and where. */
interface Mismatch {
  file: string;
  /** Each a place of the request, and what stands there in the recording (`-`) and in the request (`+`). */
  differences: string[];
}

/** What a model was asked is not what was recorded. */
export class RecordingMismatchError extends BerthError<Mismatch> {
  static {
    RecordingMismatchError.prototype.name = 'RecordingMismatchError';
  }
  readonly code = 'recording_mismatch';
  constructor(meta: Mismatch) {
    const list = meta.differences.join('\n');
    super(`Recording ${meta.file} does not fit; record it again if this is meant (BERTH_RECORD=1).\n${list}`, meta);
  }
}
