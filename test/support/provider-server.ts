import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a provider says in one answer, whatever the wire format. */
export interface ProviderAnswer {
  thinking?: string;
  text?: string;
  /** Arguments come in the pieces given. */
  toolCalls?: { id: string; name: string; pieces: string[] }[];
  finish?: 'stop' | 'length' | 'refusal';
}

/** How one request is answered. */
export type Reply =
  /** An answer that is not a stream: an error. */
  | { status: number; headers?: Record<string, string>; body: unknown }
  /** Server-sent events. `ending`: how the stream ends. */
  | { events: unknown[]; ending?: 'end' | 'cut' | 'silence' };

export interface ReceivedRequest {
  path: string;
  headers: IncomingHttpHeaders;
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of four wire formats, looked into by tests only
  body: any;
}

/** A provider on this machine: answers each request with the next of `replies`, and keeps what it was asked. */
export async function startProvider(replies: Reply[]) {
  const requests: ReceivedRequest[] = [];
  const left = [...replies];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString());
    requests.push({ path: request.url ?? '', headers: request.headers, body });
    reply(response, left.shift() ?? { status: 418, body: { error: { message: 'no reply is left' } } });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // a TCP server that listens has one
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function reply(response: ServerResponse, reply: Reply): void {
  if ('status' in reply) {
    response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers });
    response.end(JSON.stringify(reply.body));
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const event of reply.events) {
    const data = typeof event === 'string' ? event : JSON.stringify(event);
    const type = typeof event === 'object' && event !== null && 'type' in event ? `event: ${event.type}\n` : '';
    response.write(`${type}data: ${data}\n\n`);
  }
  if (reply.ending === 'silence') return;
  // The events must have left, or the client would see no answer at all.
  if (reply.ending === 'cut') response.write('', () => response.destroy());
  else response.end();
}

/** A text in pieces of three characters. */
function pieces(text: string): string[] {
  return text.match(/.{1,3}/gs) ?? [];
}

/** The Messages API of Anthropic: 20 input tokens, 5 of them read from the cache, 7 output tokens. */
export function anthropicEvents({ thinking, text, toolCalls = [], finish = 'stop' }: ProviderAnswer): unknown[] {
  const blocks: { start: object; deltas: object[] }[] = [];
  if (thinking !== undefined) {
    blocks.push({
      start: { type: 'thinking', thinking: '', signature: '' },
      deltas: [
        ...pieces(thinking).map((piece) => ({ type: 'thinking_delta', thinking: piece })),
        { type: 'signature_delta', signature: 'signed' },
      ],
    });
  }
  if (text !== undefined) {
    const deltas = pieces(text).map((piece) => ({ type: 'text_delta', text: piece }));
    blocks.push({ start: { type: 'text', text: '' }, deltas });
  }
  for (const { id, name, pieces } of toolCalls) {
    const deltas = pieces.map((piece) => ({ type: 'input_json_delta', partial_json: piece }));
    blocks.push({ start: { type: 'tool_use', id, name, input: {} }, deltas });
  }
  const stopReasons = {
    stop: toolCalls.length > 0 ? 'tool_use' : 'end_turn',
    length: 'max_tokens',
    refusal: 'refusal',
  };
  const usage = { input_tokens: 15, output_tokens: 1, cache_read_input_tokens: 5, cache_creation_input_tokens: 0 };
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-served', content: [], usage };
  return [
    { type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null } },
    { type: 'ping' },
    ...blocks.flatMap(({ start, deltas }, index) => [
      { type: 'content_block_start', index, content_block: start },
      ...deltas.map((delta) => ({ type: 'content_block_delta', index, delta })),
      { type: 'content_block_stop', index },
    ]),
    {
      type: 'message_delta',
      delta: { stop_reason: stopReasons[finish], stop_sequence: null },
      usage: { output_tokens: 7 },
    },
    { type: 'message_stop' },
  ];
}

/** The Responses API of OpenAI, with the same usage. */
export function responsesEvents({ thinking, text, toolCalls = [], finish = 'stop' }: ProviderAnswer): unknown[] {
  const events: object[] = [];
  let output = 0;
  if (thinking !== undefined) {
    const item = { type: 'reasoning', id: 'rs_1', encrypted_content: 'sealed', summary: [] };
    const place = { item_id: 'rs_1', output_index: output, summary_index: 0 };
    const part = { type: 'summary_text', text: thinking };
    events.push(
      { type: 'response.output_item.added', output_index: output, item: { ...item, encrypted_content: null } },
      { type: 'response.reasoning_summary_part.added', ...place, part: { ...part, text: '' } },
      ...pieces(thinking).map((delta) => ({ type: 'response.reasoning_summary_text.delta', ...place, delta })),
      { type: 'response.reasoning_summary_part.done', ...place, part },
      { type: 'response.output_item.done', output_index: output, item: { ...item, summary: [part] } },
    );
    output++;
  }
  if (text !== undefined) {
    const item = { type: 'message', id: 'msg_1', role: 'assistant', status: 'completed', content: [] };
    const place = { item_id: 'msg_1', output_index: output, content_index: 0 };
    events.push(
      { type: 'response.output_item.added', output_index: output, item },
      ...pieces(text).map((delta) => ({ type: 'response.output_text.delta', ...place, delta })),
      { type: 'response.output_item.done', output_index: output, item },
    );
    output++;
  }
  for (const { id, name, pieces } of toolCalls) {
    const item = { type: 'function_call', id: `fc_${id}`, call_id: id, name, arguments: '', status: 'in_progress' };
    const place = { item_id: item.id, output_index: output };
    const done = { ...item, arguments: pieces.join(''), status: 'completed' };
    events.push(
      { type: 'response.output_item.added', output_index: output, item },
      ...pieces.map((delta) => ({ type: 'response.function_call_arguments.delta', ...place, delta })),
      { type: 'response.function_call_arguments.done', ...place, arguments: done.arguments },
      { type: 'response.output_item.done', output_index: output, item: done },
    );
    output++;
  }
  const usage = {
    input_tokens: 20,
    input_tokens_details: { cached_tokens: 5 },
    output_tokens: 7,
    output_tokens_details: { reasoning_tokens: 2 },
  };
  const response = { id: 'resp_1', created_at: 1, model: 'gpt-served', usage };
  const incomplete = { stop: null, length: { reason: 'max_output_tokens' }, refusal: { reason: 'content_filter' } };
  return [
    { type: 'response.created', response: { id: 'resp_1', created_at: 1, model: 'gpt-served' } },
    ...events,
    finish === 'stop'
      ? { type: 'response.completed', response }
      : { type: 'response.incomplete', response: { ...response, incomplete_details: incomplete[finish] } },
  ];
}

/** Chat Completions, with the same usage. The calls of one answer come mixed, as parallel calls may. */
export function chatEvents({ text, toolCalls = [], finish = 'stop' }: ProviderAnswer): unknown[] {
  const head = { id: 'chat_1', created: 1, model: 'chat-served' };
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    ...head,
    choices: [{ index: 0, delta, finish_reason }],
  });
  const most = Math.max(0, ...toolCalls.map(({ pieces }) => pieces.length));
  const mixed = Array.from({ length: most }, (_, i) =>
    toolCalls.flatMap(({ pieces }, index) =>
      pieces[i] === undefined ? [] : [chunk({ tool_calls: [{ index, function: { arguments: pieces[i] } }] })],
    ),
  ).flat();
  const reasons = { stop: toolCalls.length > 0 ? 'tool_calls' : 'stop', length: 'length', refusal: 'content_filter' };
  const usage = {
    prompt_tokens: 20,
    prompt_tokens_details: { cached_tokens: 5 },
    completion_tokens: 7,
    completion_tokens_details: { reasoning_tokens: 2 },
    total_tokens: 27,
  };
  return [
    chunk({ role: 'assistant', content: '' }),
    ...pieces(text ?? '').map((content) => chunk({ content })),
    ...toolCalls.map(({ id, name }, index) =>
      chunk({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] }),
    ),
    ...mixed,
    chunk({}, reasons[finish]),
    { ...head, choices: [], usage },
    '[DONE]',
  ];
}

/** Google's streamGenerateContent, with the same usage. A call comes in one piece. */
export function googleEvents({ thinking, text, toolCalls = [], finish = 'stop' }: ProviderAnswer): unknown[] {
  const parts: object[] = [];
  if (thinking !== undefined) parts.push(...pieces(thinking).map((piece) => ({ text: piece, thought: true })));
  if (text !== undefined) parts.push(...pieces(text).map((piece) => ({ text: piece })));
  for (const { name, pieces } of toolCalls) {
    parts.push({ functionCall: { name, args: JSON.parse(pieces.join('')) }, thoughtSignature: 'signed' });
  }
  const usageMetadata = {
    promptTokenCount: 20,
    cachedContentTokenCount: 5,
    candidatesTokenCount: 5,
    thoughtsTokenCount: 2,
    totalTokenCount: 27,
  };
  const finishReason = { stop: 'STOP', length: 'MAX_TOKENS', refusal: 'SAFETY' }[finish];
  return [
    ...parts.map((part) => ({ responseId: 'resp_1', candidates: [{ content: { role: 'model', parts: [part] } }] })),
    { candidates: [{ content: { role: 'model', parts: [] }, finishReason }], usageMetadata },
  ];
}
