import { createContext, runInContext } from 'node:vm';
import type { JsonSchemaType } from '@modelcontextprotocol/sdk/validation/types.js';

const patienceMs = 1_000;

/** @returns what is wrong with a value, if anything */
export type OutputCheck = (value: unknown) => string | undefined;

/**
 * Makes the check of an output schema. Both the schema and the value are the server's, so that one of its patterns could
 * take for ever: each step is stopped after a second.
 * @throws the schema is no good one
 */
export async function outputCheck(schema: object): Promise<OutputCheck> {
  const { AjvJsonSchemaValidator } = await import('@modelcontextprotocol/sdk/validation/ajv');
  // One for each: it keeps schemas by their `$id`.
  const validate = within(() => new AjvJsonSchemaValidator().getValidator(schema as JsonSchemaType));
  return (value) => {
    try {
      return within(() => validate(value)).errorMessage;
    } catch (error) {
      return `could not be checked (${error})`; // of another realm where it is the timeout
    }
  };
}

/** `vm` is here for its timeout, which also stops a regular expression; it is no boundary, and need be none. */
function within<Result>(work: () => Result): Result {
  return runInContext('work()', createContext({ work }), { timeout: patienceMs });
}
