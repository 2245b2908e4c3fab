import { InvalidRequestError } from './errors.ts';
import { type JsonValue, jsonSnapshot, NotJson } from './schema/snapshot.ts';

/**
 * Refuses options that a call does not have: a misspelt one would do nothing, without a word.
 * @param call - what was called, for the error
 * @param known - every option, so that the compiler says when one is forgotten here
 * @throws {InvalidRequestError} it names the option, and those that there are
 */
export function checkOptions<Options extends object>(
  call: string,
  options: Options,
  known: Readonly<Record<keyof Options, true>>,
): void {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidRequestError(`the options of ${call} must be an object`);
  }
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(known, name)) continue;
    throw new InvalidRequestError(`${call} has no option ${name} (it has ${Object.keys(known).join(', ')})`);
  }
  if ('signal' in options && options.signal !== undefined && !(options.signal instanceof AbortSignal)) {
    throw new InvalidRequestError(`the signal of ${call} must be an AbortSignal`);
  }
}

/**
 * What is kept of an argument that is any JSON value.
 * @param name - of the argument
 * @throws {InvalidRequestError} JSON can't hold it
 */
export function jsonArgument(value: unknown, name: string, maxBytes: number): JsonValue {
  try {
    return jsonSnapshot(value, name, maxBytes);
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    throw new InvalidRequestError(`${error.path} is ${error.kind}, which can't be kept as JSON`, { cause: error });
  }
}
