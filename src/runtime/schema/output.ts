import type { Issue } from './issue.ts';
import { parse, type Schema } from './parse.ts';
import { type JsonValue, jsonSnapshot, NotJson } from './snapshot.ts';

/** The errors of whoever's output it is. */
export interface OutputErrors {
  invalid: (issues: Issue[]) => Error;
  notJson: (found: { path: string; kind: string }, cause: NotJson) => Error;
}

/** What is delivered of what an action or a tool returned: the output side of its schema, as JSON; nothing is `null`. */
export function outputJson(
  { schema, maxBytes }: { schema: Schema | undefined; maxBytes: number },
  returned: unknown,
  errors: OutputErrors,
): JsonValue {
  let value = returned;
  if (schema) {
    const parsed = parse(schema, returned);
    if (!parsed.success) throw errors.invalid(parsed.issues);
    value = parsed.output;
  } else if (value === undefined) {
    return null;
  }
  try {
    return jsonSnapshot(value, 'output', maxBytes);
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    throw errors.notJson({ path: error.path, kind: error.kind }, error);
  }
}
