import { createHash } from 'node:crypto';
import type {
  JSONObject,
  LanguageModelV3Message,
  LanguageModelV3Prompt,
  LanguageModelV3ToolResultPart,
  SharedV3ProviderOptions,
} from '@ai-sdk/provider';
import type { AssistantMessage, ImagePart, ModelRequest, TextPart, ToolMessage, UserMessage } from './model.ts';
import type { ProviderApi } from './providers.ts';

type AssistantContent = Extract<LanguageModelV3Message, { role: 'assistant' }>['content'];
type UserContent = Extract<LanguageModelV3Message, { role: 'user' }>['content'];

/** The model that a prompt is made for. */
interface Receiver {
  provider: string;
  id: string;
  api: ProviderApi | undefined;
}

/** A request in the form of the model library. Results of one turn's calls become one message. */
export function toPrompt({ system, messages }: ModelRequest, receiver: Receiver): LanguageModelV3Prompt {
  const { api } = receiver;
  const ids = new CallIds(receiver);
  const prompt: LanguageModelV3Prompt = system === '' ? [] : [{ role: 'system', content: system }];
  let results: ToolMessage[] = [];
  const flush = () => {
    if (results.length === 0) return;
    const imagesInside = api !== 'openai-completions'; // whose tool messages are only text
    prompt.push({ role: 'tool', content: results.map((message) => toolResult(ids.known(message), imagesInside)) });
    const images = imagesInside
      ? []
      : results.flatMap(({ content }) => content.filter((part) => part.type === 'image'));
    if (images.length > 0)
      prompt.push({ role: 'user', content: [{ type: 'text', text: IMAGES_FOLLOW }, ...images.map(file)] });
    results = [];
  };
  for (const message of messages) {
    if (message.role === 'tool') {
      results.push(message);
      continue;
    }
    flush();
    if (message.role === 'user') prompt.push({ role: 'user', content: userContent(message) });
    else {
      const content = assistantContent(message, receiver, ids);
      // Providers refuse a message without content, or with nothing but thoughts.
      if (content.some(({ type }) => type !== 'reasoning')) prompt.push({ role: 'assistant', content });
    }
  }
  flush();
  if (api === 'anthropic-messages') markForCache(prompt);
  return prompt;
}

const IMAGES_FOLLOW = 'The images that the tools gave:';

function userContent({ content }: UserMessage): UserContent {
  return content.map((part) => (part.type === 'image' ? file(part) : textPart(part)));
}

/**
 * What a model thought, and what its provider wants back unchanged, is for that model alone: to another it means nothing,
 * or is refused (a signature, the id of an item that is kept elsewhere).
 */
function assistantContent({ content, model }: AssistantMessage, receiver: Receiver, ids: CallIds): AssistantContent {
  const foreign = model !== undefined && (model.provider !== receiver.provider || model.id !== receiver.id);
  return content
    .filter((part) => (part.type === 'thinking' ? !foreign : part.type !== 'text' || part.text !== ''))
    .map((part) => {
      if (!foreign) return part;
      const { providerMetadata: _, ...rest } = part;
      return rest;
    })
    .map((part) => assistantPart(part.type === 'tool-call' ? ids.called(part) : part));
}

function assistantPart(part: AssistantMessage['content'][number]): AssistantContent[number] {
  switch (part.type) {
    case 'text':
      return textPart(part);
    case 'thinking':
      return { type: 'reasoning', text: part.text, ...metadata(part) };
    case 'tool-call': {
      const { toolCallId, toolName } = part;
      return { type: 'tool-call', toolCallId, toolName, input: callInput(part.input), ...metadata(part) };
    }
  }
}

/** Providers want an object back, also where the model wrote something else: an error result has told it so. */
function callInput(text: string): JSONObject {
  if (text.trim() === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JSONObject; // from JSON
  } catch {
    // Not JSON; said below.
  }
  return { INVALID_JSON: text };
}

function toolResult(message: ToolMessage, imagesInside: boolean): LanguageModelV3ToolResultPart {
  const { toolCallId, toolName, content, isError } = message;
  const images = content.some((part) => part.type === 'image');
  if (images && imagesInside) {
    const value = content.map((part) =>
      part.type === 'text'
        ? { type: 'text' as const, text: part.text }
        : { type: 'image-data' as const, data: part.data, mediaType: part.mimeType },
    );
    return { type: 'tool-result', toolCallId, toolName, output: { type: 'content', value } };
  }
  const value = content
    .map((part) => (part.type === 'text' ? part.text : '[An image: see the next message.]'))
    .join('\n');
  return { type: 'tool-result', toolCallId, toolName, output: { type: isError ? 'error-text' : 'text', value } };
}

function textPart(part: TextPart) {
  return { type: 'text' as const, text: part.text, ...metadata(part) };
}

function file({ data, mimeType }: ImagePart) {
  return { type: 'file' as const, data, mediaType: mimeType };
}

function metadata({ providerMetadata }: { providerMetadata?: Record<string, unknown> }) {
  // It came from the library as its own metadata, and goes back unchanged.
  return providerMetadata === undefined ? {} : { providerOptions: providerMetadata as SharedV3ProviderOptions };
}

/**
 * Lets Anthropic cache what comes before these places: tools and system prompt, and the conversation up to the last
 * two messages of ours, since an answer may add more blocks than the 20 that the cache looks back over.
 */
function markForCache(prompt: LanguageModelV3Prompt): void {
  const ours = prompt.filter(({ role }) => role === 'user' || role === 'tool').slice(-2);
  const system = prompt.filter(({ role }) => role === 'system');
  for (const message of [...system, ...ours]) {
    message.providerOptions = { anthropic: { cacheControl: { type: 'ephemeral' } } };
  }
}

/** Ids of tool calls as the receiver takes them: each one only once in a prompt, and of a form that may be demanded. */
class CallIds {
  readonly #length: number;
  readonly #fits: RegExp;
  readonly #sent = new Map<string, string>();
  readonly #used = new Set<string>();

  constructor({ api, id }: Receiver) {
    // Mistral's models, wherever they are served; all others are content with what Anthropic and OpenAI both take.
    const strict = api === 'openai-completions' && /(mis|minis|magis|mix|pix)tral|codestral|devstral/i.test(id);
    this.#length = strict ? 9 : 40;
    this.#fits = strict ? /^[A-Za-z0-9]{9}$/ : /^[A-Za-z0-9_-]{1,64}$/;
  }

  called<Call extends { toolCallId: string }>(call: Call): Call {
    let id = call.toolCallId;
    for (let again = 0; !this.#fits.test(id) || this.#used.has(id); again++) {
      // The same for each request, or what a provider has cached would be of no use.
      id = createHash('sha256').update(`${call.toolCallId} ${again}`).digest('hex').slice(0, this.#length);
    }
    this.#used.add(id);
    this.#sent.set(call.toolCallId, id);
    return { ...call, toolCallId: id };
  }

  /** The result of the latest call of that id. */
  known<Result extends { toolCallId: string }>(result: Result): Result {
    return { ...result, toolCallId: this.#sent.get(result.toolCallId) ?? result.toolCallId };
  }
}
