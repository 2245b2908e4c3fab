import type { EventBody, EventScope } from './event.ts';

/** A piece of a text, of which many come. */
export type Delta = Extract<EventBody, { type: 'text_delta' | 'thinking_delta' | 'tool_output' }>;

export function isDelta(body: EventBody): body is Delta {
  return body.type === 'text_delta' || body.type === 'thinking_delta' || body.type === 'tool_output';
}

/** Joins the pieces that belong to one text, until they are taken. */
export class Deltas {
  readonly #open = new Map<string, { body: Delta; scope: EventScope }>();

  add(body: Delta, scope: EventScope): void {
    const key = JSON.stringify([body.type, scope.turnId, scope.operationId, textKey(body)]);
    const open = this.#open.get(key);
    this.#open.set(key, { body: open === undefined ? body : joined(open.body, body), scope });
  }

  take(): { body: Delta; scope: EventScope }[] {
    const taken = [...this.#open.values()];
    this.#open.clear();
    return taken;
  }
}

function textKey(body: Delta): unknown {
  if (body.type === 'text_delta') return undefined;
  return body.type === 'thinking_delta' ? body.contentIndex : [body.toolCallId, body.stream];
}

function joined(first: Delta, second: Delta): Delta {
  if (first.type === 'thinking_delta' && second.type === 'thinking_delta') {
    return { ...first, delta: first.delta + second.delta };
  }
  if (first.type === 'thinking_delta' || second.type === 'thinking_delta') return second; // never: the keys differ
  return { ...first, text: first.text + second.text };
}
