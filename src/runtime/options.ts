import { InvalidRequestError } from './errors.ts';

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
