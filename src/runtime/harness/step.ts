import { abortError } from '../../errors.ts';
import { InvalidRequestError, StepOutputSerializationError } from '../errors.ts';
import { eventLog } from '../events/log.ts';
import { checkOptions } from '../options.ts';
import { type JsonValue, jsonSnapshot, NotJson } from '../schema/snapshot.ts';
import { unlessIgnored } from '../unless-ignored.ts';
import { graceMs } from './grace.ts';
import type { Operation } from './operation.ts';

const maxNameCharacters = 128;

/** @throws {InvalidRequestError} */
export function checkStep(name: unknown, work: unknown, options: object): void {
  checkOptions('step', options, { signal: true });
  if (typeof name !== 'string' || name === '' || name.length > maxNameCharacters) {
    throw new InvalidRequestError(`the name of a step is a text of 1 to ${maxNameCharacters} characters`);
  }
  if (typeof work !== 'function') throw new InvalidRequestError('a step needs a function that does its work');
}

/**
 * Does what the application put into a step.
 * @returns `undefined` for none
 * @throws {StepOutputSerializationError}
 */
export async function runStep(
  name: string,
  work: (context: { signal: AbortSignal }) => unknown,
  { signal, emit, place }: Operation,
): Promise<JsonValue | undefined> {
  // Asynchronous, so that one that throws at once is like one that rejects.
  const running = (async () => work({ signal }))();
  const returned = await unlessIgnored(running, signal, {
    graceMs: graceMs(place.depth),
    giveUp: () => eventLog(emit).warn(`The step ${name} did not end when it was aborted; it may still be at work`),
  }).catch((error: unknown) => {
    // Whatever it throws because it was aborted, this is why. What it gives all the same was done, and is kept.
    throw signal.aborted ? abortError(signal.reason) : error;
  });
  if (returned === undefined) return undefined;
  try {
    return jsonSnapshot(returned, 'output', place.maxValueBytes);
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    throw new StepOutputSerializationError({ step: name, path: error.path, kind: error.kind }, { cause: error });
  }
}
