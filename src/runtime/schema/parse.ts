import * as v from 'valibot';
import { recordedError } from '../events/recorded-error.ts';
import type { Issue } from './issue.ts';

/** Any synchronous Valibot schema. */
export type Schema = v.GenericSchema;

export type Parsed = { success: true; output: unknown } | { success: false; issues: Issue[] };

/** Checks a value and gives the output side of the schema. Never throws for what the value is. */
export function parse(schema: Schema, value: unknown): Parsed {
  let result: v.SafeParseResult<Schema>;
  try {
    result = v.safeParse(schema, value);
  } catch (error) {
    // A check or a transform of the author, `JSON.parse` say, threw at the value.
    return { success: false, issues: [{ message: recordedError(error).message }] };
  }
  if (result.success) return { success: true, output: result.output };
  const issues = result.issues.map((issue): Issue => {
    const path = issue.path?.map((item) => item.key as PropertyKey); // keys of JSON values and objects are property keys
    return path === undefined ? { message: issue.message } : { message: issue.message, path };
  });
  return { success: false, issues };
}
