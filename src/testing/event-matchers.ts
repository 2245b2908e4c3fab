import type { RuntimeEvent } from '../runtime/events/event.ts';

/** An event by its type, or by some of its fields; objects in it may have further fields, too. */
export type ExpectedEvent = RuntimeEvent['type'] | { type: RuntimeEvent['type']; [field: string]: unknown };

/** The types of `eventMatchers`, to extend those of `expect` with. */
export interface EventMatchers<Result = void> {
  /** A tool was called; with `input`, once at least with what has these fields. */
  toHaveCalledTool(name: string, input?: unknown): Result;
  /** These events are there, in this order; others may stand between them. */
  toHaveEventsInOrder(expected: readonly ExpectedEvent[]): Result;
  /** The run, or the newest submission, ended and completed. */
  toHaveCompleted(): Result;
}

/** What a matcher found. */
interface Verdict {
  pass: boolean;
  /** What `expect` says when that is not what was expected. */
  message(): string;
}

/**
 * Matchers for the events of a run or an agent instance, for `expect.extend` of Vitest and Jest. What is expected may
 * hold asymmetric matchers, as `expect.any(String)`.
 * @example expect.extend(eventMatchers);
 */
export const eventMatchers = {
  /** As in `EventMatchers`. */
  toHaveCalledTool(events: readonly RuntimeEvent[], name: string, input?: unknown): Verdict {
    const calls = events.filter((event) => event.type === 'tool_start');
    const pass = calls.some((call) => call.toolName === name && (input === undefined || fits(call.args, input)));
    const wanted = input === undefined ? name : `${name} with ${JSON.stringify(input)}`;
    const made = calls.map(({ toolName, args }) => `\n  ${toolName} ${JSON.stringify(args)}`).join('') || ' none';
    return { pass, message: () => `expected ${pass ? 'no ' : 'a '}call of ${wanted}; calls:${made}` };
  },

  /** As in `EventMatchers`. */
  toHaveEventsInOrder(events: readonly RuntimeEvent[], expected: readonly ExpectedEvent[]): Verdict {
    let met = 0;
    for (const event of events) {
      const next = expected[met];
      if (next !== undefined && fits(event, typeof next === 'string' ? { type: next } : next)) met++;
    }
    const pass = met === expected.length;
    const types = events.map(({ type }) => type).join(', ');
    const problem = pass
      ? `expected the events not to be in this order: ${JSON.stringify(expected)}`
      : `expected event ${met + 1} of ${expected.length}, ${JSON.stringify(expected[met])}, ` +
        `${met === 0 ? 'but it is not there' : 'after those before it'}; events: ${types}`;
    return { pass, message: () => problem };
  },

  /** As in `EventMatchers`. */
  toHaveCompleted(events: readonly RuntimeEvent[]): Verdict {
    const end = events.findLast((event) => event.type === 'run_end' || event.type === 'submission_settled');
    const state = end && (end.type === 'run_end' ? end.state : end.outcome);
    const pass = state === 'completed';
    const error = end?.error ? `: ${end.error.name}: ${end.error.message}` : '';
    const found = state === undefined ? 'it has not ended' : `it is ${state}${error}`;
    return { pass, message: () => `expected ${pass ? 'not to have' : 'to have'} completed, but ${found}` };
  },
};

/** Whether a value has all that is expected; arrays have nothing further. */
function fits(value: unknown, expected: unknown): boolean {
  if (typeof expected !== 'object' || expected === null) return Object.is(value, expected);
  if ('asymmetricMatch' in expected && typeof expected.asymmetricMatch === 'function') {
    return Boolean(expected.asymmetricMatch(value));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value) !== Array.isArray(expected)) return false;
  if (Array.isArray(value) && Array.isArray(expected) && value.length !== expected.length) return false;
  const fields = new Map<string, unknown>(Object.entries(value));
  return Object.entries(expected).every(([name, part]) => fits(fields.get(name), part));
}
