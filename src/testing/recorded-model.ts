import { secretName } from '../runtime/events/masker.ts';
import type { Model, ModelEvent, ModelRequest } from '../runtime/model/model.ts';
import { Models } from '../runtime/model/providers.ts';
import { checkOptions } from '../runtime/options.ts';
import { RecordingError, RecordingMismatchError } from './errors.ts';
import {
  type AskedRequest,
  askedRequest,
  type KeptEvent,
  keptEvents,
  readRecording,
  requestHash,
  toldEvents,
  writeRecording,
} from './recording.ts';
import { requestDiff } from './request-diff.ts';

/** Options of `recordedModel`. One that it does not have is refused. */
export interface RecordedModelOptions {
  /** Ask the real model, and record. Default: whether the variable `BERTH_RECORD` is `1` */
  record?: boolean;
  /** Makes texts of requests alike that differ from run to run: paths of temporary directories, say. Default: as they are */
  normalize?: (text: string) => string;
  /**
   * Further texts that must not be in the file: they are masked, as are keys in well-known forms, and values of variables
   * that are named as secrets. Default: none
   */
  secrets?: string[];
}

/** A model that was recorded, or is being. */
export interface RecordedModel extends Model {
  /**
   * To be called at the end of a test that went well. When recording it writes the file; else it sees that all that was
   * recorded was asked for.
   * @throws {RecordingError} a request was not answered: nothing is written, the old file stays
   * @throws {RecordingMismatchError} a recorded request was not made
   */
  finish(): Promise<void>;
}

/**
 * A model that is asked once and recorded, and from then on answers from the recording, with the same events. Requests
 * find their answers by what they ask, so sessions may run side by side; each answer is given once.
 * @param model - the real one; not needed where nothing is recorded. Where it is given, it must be the recorded one
 * @throws {RecordingError} there is no file, or none that can be used
 * @throws {RecordingMismatchError} the recording is that of another model. Also thrown by a request that is not recorded
 * @example const model = recordedModel('test/recordings/fix.json', 'anthropic/claude-opus-5');
 */
export function recordedModel(file: string, model?: string | Model, options: RecordedModelOptions = {}): RecordedModel {
  checkOptions('recordedModel', options, { record: true, normalize: true, secrets: true });
  const { record = process.env.BERTH_RECORD === '1', normalize = (text: string) => text } = options;
  const real = model === undefined ? undefined : new Models().resolve(model);
  const mask = masking(options.secrets ?? []);
  const asked = (request: ModelRequest) => askedRequest(request, (text) => mask(normalize(text)));
  if (!record) return replaying(file, real, asked);
  if (!real) throw new RecordingError({ file, problem: 'has no model to record: give one' });
  return recording(file, real, asked, mask);
}

type Asked = (request: ModelRequest) => AskedRequest;

function recording(file: string, real: Model, asked: Asked, mask: (text: string) => string): RecordedModel {
  const turns: { request: AskedRequest; answer?: KeptEvent[]; error?: unknown }[] = [];

  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    const turn: (typeof turns)[number] = { request: asked(request) };
    turns.push(turn); // in the order of the requests, whichever is answered first
    const events: ModelEvent[] = [];
    try {
      for await (const event of real.stream(request, signal)) {
        events.push(event);
        // Whoever asked may not come back after the end. One that failed in passing is asked for again.
        if (event.type === 'finish' && event.finishReason !== 'error') turn.answer = keptEvents(events, mask);
        yield event;
      }
    } catch (error) {
      turn.error = error;
      throw error;
    }
  }

  const { provider, id, api, contextWindow, maxOutputTokens, seesImages } = real;
  const fields = {
    provider,
    id,
    ...(api !== undefined && { api }),
    ...(contextWindow !== undefined && { contextWindow }),
    ...(maxOutputTokens !== undefined && { maxOutputTokens }),
    ...(seesImages !== undefined && { seesImages }),
  };
  return {
    ...fields,
    stream,
    async finish() {
      const answered = turns.flatMap(({ request, answer }) => (answer ? [{ request, answer }] : []));
      const hashes = new Set(answered.map(({ request }) => requestHash(request)));
      const number = turns.findIndex(({ request, answer }) => !answer && !hashes.has(requestHash(request)));
      if (number >= 0) {
        const problem = `was not written: request ${number + 1} was not answered`;
        throw new RecordingError({ file, problem }, { cause: turns[number]?.error });
      }
      if (answered.length === 0) throw new RecordingError({ file, problem: 'was not written: nothing was asked' });
      await writeRecording(file, { model: fields, turns: answered });
    },
  };
}

function replaying(file: string, real: Model | undefined, asked: Asked): RecordedModel {
  const { model, turns } = readRecording(file);
  if (real && (real.provider !== model.provider || real.id !== model.id)) {
    const differences = [`model\n  - ${model.provider}/${model.id}\n  + ${real.provider}/${real.id}`];
    throw new RecordingMismatchError({ file, differences });
  }
  const left = turns.map((turn, i) => ({ ...turn, number: i + 1, hash: requestHash(turn.request) }));

  async function* stream(given: ModelRequest): AsyncGenerator<ModelEvent> {
    const request = asked(given);
    const hash = requestHash(request);
    const index = left.findIndex((turn) => turn.hash === hash);
    const [turn] = index < 0 ? [] : left.splice(index, 1);
    if (!turn) throw new RecordingMismatchError({ file, differences: differences(request) });
    yield* toldEvents(turn.answer);
  }

  /** To the request that is most like it, of those that were not made yet. */
  function differences(request: AskedRequest): string[] {
    const [nearest] = left
      .map(({ number, request: recorded }) => ({ number, found: requestDiff(recorded, request) }))
      .sort((a, b) => a.found.length - b.found.length);
    if (!nearest) return [`all ${turns.length} answers of the recording were given already`];
    return [`compared with request ${nearest.number} of the recording:`, ...nearest.found];
  }

  return {
    ...model,
    stream,
    async finish() {
      if (left.length === 0) return;
      const differences = left.map(({ number }) => `request ${number} of the recording was not made`);
      throw new RecordingMismatchError({ file, differences });
    },
  };
}

/** The forms that the keys of well-known services have. */
const KEYS =
  /\b(sk-[\w-]{16,}|AIza[\w-]{30,}|gh[opsu]_\w{30,}|github_pat_\w{30,}|xox[abprs]-[\w-]{10,}|AKIA[A-Z\d]{16})(?![\w-])/g;

/** Replaces what is given, what stands in variables that are named as secrets, and what looks like a key. */
function masking(given: readonly string[]): (text: string) => string {
  const ofVariables = Object.entries(process.env).flatMap(([name, value]) =>
    value && value.length >= 16 && secretName.test(name) ? [value] : [],
  );
  // The longest first: one may be the beginning of another.
  const secrets = [...given, ...ofVariables].filter(Boolean).sort((a, b) => b.length - a.length);
  return (text) =>
    secrets.reduce((masked, secret) => masked.replaceAll(secret, '<masked>'), text).replace(KEYS, '<masked>');
}
