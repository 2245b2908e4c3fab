import type { EventBody, EventScope } from './event.ts';
import type { Masker } from './masker.ts';

/** A piece of a text, of which many come. */
export type Delta = Extract<EventBody, { type: 'text_delta' | 'thinking_delta' | 'tool_output' }>;

export function isDelta(body: EventBody): body is Delta {
  return body.type === 'text_delta' || body.type === 'thinking_delta' || body.type === 'tool_output';
}

interface Piece {
  body: Delta;
  scope: EventScope;
}

/** Joins the pieces that belong to one text, until they are taken. No piece of a secret is. */
export class Deltas {
  readonly #masker: Masker;
  readonly #open = new Map<string, Piece>();

  constructor(masker: Masker) {
    this.#masker = masker;
  }

  add(body: Delta, scope: EventScope): void {
    const key = JSON.stringify([body.type, scope.turnId, scope.operationId, textKey(body)]);
    const open = this.#open.get(key);
    this.#open.set(key, { body: open === undefined ? body : withText(body, textOf(open.body) + textOf(body)), scope });
  }

  /**
   * What came since, but for an end of it that may be the beginning of a secret: that is taken with what goes on from it,
   * or when its text is over.
   * @param isOver - whether nothing more comes of the text that the piece is of
   */
  take(isOver: (piece: Piece) => boolean): Piece[] {
    const taken: Piece[] = [];
    for (const [key, piece] of this.#open) {
      const { body, scope } = piece;
      const text = textOf(body);
      const [told, rest] = isOver(piece) ? [this.#masker.text(text), ''] : this.#masker.split(text);
      if (told !== '' || rest === '') taken.push({ body: withText(body, told), scope });
      if (rest === '') this.#open.delete(key);
      else this.#open.set(key, { body: withText(body, rest), scope });
    }
    return taken;
  }
}

/** Whether an event is the end of the text that a piece is of, or of all texts. */
export function endsText({ body: piece, scope: at }: Piece, body: EventBody, scope: EventScope): boolean {
  switch (body.type) {
    case 'message_end':
      return piece.type === 'text_delta' && at.turnId === scope.turnId;
    case 'thinking_end':
      return piece.type === 'thinking_delta' && at.turnId === scope.turnId && piece.contentIndex === body.contentIndex;
    case 'tool':
      return (
        piece.type === 'tool_output' && at.operationId === scope.operationId && piece.toolCallId === body.toolCallId
      );
    default:
      return body.type === 'run_end' || body.type === 'submission_settled';
  }
}

function textKey(body: Delta): unknown {
  if (body.type === 'text_delta') return undefined;
  return body.type === 'thinking_delta' ? body.contentIndex : [body.toolCallId, body.stream];
}

function textOf(body: Delta): string {
  return body.type === 'thinking_delta' ? body.delta : body.text;
}

function withText(body: Delta, text: string): Delta {
  return body.type === 'thinking_delta' ? { ...body, delta: text } : { ...body, text };
}
