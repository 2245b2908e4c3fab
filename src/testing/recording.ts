import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Model, ModelEvent, ModelRequest, ModelTool, ThinkingLevel } from '../runtime/model/model.ts';
import { RecordingError } from './errors.ts';

const VERSION = 1;

/** What of a request counts: what a provider gets to see. Images are there by their digest. */
export interface AskedRequest {
  system: string;
  tools: ModelTool[];
  messages: { role: string; [field: string]: unknown }[];
  thinkingLevel: ThinkingLevel;
}

/** An event of a model; pieces of one text that follow each other are one. */
export type KeptEvent =
  | Exclude<ModelEvent, { type: 'text-delta' | 'thinking-delta' | 'progress' }>
  | { type: 'text-delta' | 'thinking-delta'; index: number; pieces: string[] };

export type ModelFields = Omit<Model, 'stream' | 'baseUrl'>;

export interface Recording {
  model: ModelFields;
  turns: { request: AskedRequest; answer: KeptEvent[] }[];
}

/** As it is in the file: what several requests have in common stands there once, and they have its number. */
interface RecordingFile {
  version: typeof VERSION;
  model: ModelFields;
  systems: string[];
  tools: ModelTool[];
  messages: AskedRequest['messages'];
  turns: {
    request: { system: number; tools: number[]; messages: number[]; thinkingLevel: ThinkingLevel };
    answer: KeptEvent[];
  }[];
}

/** @throws {RecordingError} it is not there, or no recording of this version */
export function readRecording(file: string): Recording {
  let kept: RecordingFile;
  try {
    kept = JSON.parse(readFileSync(file, 'utf8')); // looked at below
  } catch (cause) {
    const hint = 'Set BERTH_RECORD=1 once, to ask the real model and record its answers.';
    throw new RecordingError({ file, problem: `can't be read: ${String(cause)}` }, { cause, hint });
  }
  if (kept?.version !== VERSION) {
    throw new RecordingError({ file, problem: `has version ${kept?.version}, but this Berth reads ${VERSION}` });
  }
  const at = <T>(list: T[], index: number): T => {
    const value = list[index];
    if (value === undefined) throw new RecordingError({ file, problem: `names part ${index}, which it does not have` });
    return value;
  };
  return {
    model: kept.model,
    turns: kept.turns.map(({ request, answer }) => ({
      request: {
        system: at(kept.systems, request.system),
        tools: request.tools.map((index) => at(kept.tools, index)),
        messages: request.messages.map((index) => at(kept.messages, index)),
        thinkingLevel: request.thinkingLevel,
      },
      answer,
    })),
  };
}

/** The file has what was there before, or all of the recording. */
export async function writeRecording(file: string, { model, turns }: Recording): Promise<void> {
  const [systems, tools, messages] = [new Parts<string>(), new Parts<ModelTool>(), new Parts<{ role: string }>()];
  const kept: RecordingFile = {
    version: VERSION,
    model,
    systems: systems.all,
    tools: tools.all,
    messages: messages.all,
    turns: turns.map(({ request, answer }) => ({
      request: {
        system: systems.number(request.system),
        tools: request.tools.map((tool) => tools.number(tool)),
        messages: request.messages.map((message) => messages.number(message)),
        thinkingLevel: request.thinkingLevel,
      },
      answer,
    })),
  };
  // Numbers on one line. Inside of a text there is no newline as such, so nothing else is met.
  const text = JSON.stringify(kept, null, 2).replace(/\[(\n\s+\d+,?)+\n\s+\]/g, (list) =>
    list.replace(/\s+/g, '').replaceAll(',', ', '),
  );
  await mkdir(dirname(file), { recursive: true });
  const part = `${file}.${randomUUID()}.part`;
  try {
    await writeFile(part, `${text}\n`, { flag: 'wx' });
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

class Parts<T> {
  readonly all: T[] = [];
  readonly #numbers = new Map<string, number>();

  number(part: T): number {
    const key = JSON.stringify(part);
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    this.#numbers.set(key, this.all.length);
    return this.all.push(part) - 1;
  }
}

/** The same for the same request, whatever the order of tools and fields. */
export function requestHash(asked: AskedRequest): string {
  const tools = asked.tools.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const sorted = (_: string, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  return createHash('sha256')
    .update(JSON.stringify({ ...asked, tools }, sorted))
    .digest('hex');
}

/** @param text - what is to be kept of a text: without secrets, and without what differs from run to run */
export function askedRequest(request: ModelRequest, text: (text: string) => string): AskedRequest {
  const messages = request.messages.map((message) => {
    const { role } = message;
    if (message.role === 'assistant') return { role, content: message.content };
    const content = message.content.map((part) =>
      part.type === 'image'
        ? {
            type: 'image',
            mimeType: part.mimeType,
            sha256: createHash('sha256').update(part.data, 'base64').digest('hex'),
          }
        : part,
    );
    if (message.role === 'user') return { role, content };
    const { toolCallId, toolName, isError } = message;
    return { role, toolCallId, toolName, isError, content };
  });
  const { tools, thinkingLevel } = request;
  // The system prompt has the day in a line of its own.
  const system = request.system.replace(/^Date: \d{4}-\d\d-\d\d$/m, 'Date: <date>');
  return mapTexts({ system, tools, messages, thinkingLevel }, text);
}

/** @param mask - given whole texts, as a secret may lie across pieces; the pieces of such a text become one */
export function keptEvents(events: readonly ModelEvent[], mask: (text: string) => string): KeptEvent[] {
  const kept: KeptEvent[] = [];
  for (const event of events) {
    if (event.type === 'progress') continue;
    if (event.type !== 'text-delta' && event.type !== 'thinking-delta') {
      kept.push(mapTexts(event, mask));
      continue;
    }
    const last = kept.at(-1);
    if (last?.type === event.type && 'pieces' in last && last.index === event.index) last.pieces.push(event.text);
    else kept.push({ type: event.type, index: event.index, pieces: [event.text] });
  }
  for (const event of kept) {
    if (!('pieces' in event)) continue;
    const whole = event.pieces.join('');
    if (mask(whole) !== whole) event.pieces = [mask(whole)];
  }
  return kept;
}

export function* toldEvents(kept: readonly KeptEvent[]): Generator<ModelEvent> {
  for (const event of kept) {
    if ('pieces' in event) for (const text of event.pieces) yield { type: event.type, index: event.index, text };
    else yield event;
  }
}

function mapTexts<T>(value: T, map: (text: string) => string): T {
  // The parts of a request and the events of a model are plain JSON, and stay what they are but for their texts.
  return JSON.parse(JSON.stringify(value), (_, part) => (typeof part === 'string' ? map(part) : part)) as T;
}
