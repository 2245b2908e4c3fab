import {
  APICallError,
  EmptyResponseBodyError,
  InvalidResponseDataError,
  JSONParseError,
  TypeValidationError,
} from '@ai-sdk/provider';
import { ModelRequestError, providerError } from './errors.ts';

/** What the model library threw, or put into its stream, as an error of ours; what it does not know stays as it is. */
export function requestError(error: unknown): unknown {
  if (error instanceof ModelRequestError) return error;
  if (APICallError.isInstance(error)) return apiError(error);
  if (TypeValidationError.isInstance(error)) {
    // An error of the provider's in another form than the library knows, or no valid answer.
    const told = isErrorAnswer(error.value) ? toldError(error.value) : undefined;
    return told ? streamError(told, error) : invalidAnswer(error);
  }
  if (
    JSONParseError.isInstance(error) ||
    InvalidResponseDataError.isInstance(error) ||
    EmptyResponseBodyError.isInstance(error)
  ) {
    return invalidAnswer(error);
  }
  if (error instanceof Error) {
    const broken = brokenConnection(error);
    return broken ? connectionError(broken) : error;
  }
  const told = toldError(error);
  return told ? streamError(told, error) : new ModelRequestError(String(error), { transient: true });
}

function invalidAnswer(cause: unknown): ModelRequestError {
  return new ModelRequestError('the provider sent what is no valid answer', { transient: true }, { cause });
}

function apiError(error: APICallError): ModelRequestError {
  const { statusCode, responseHeaders = {}, responseBody = '', message } = error;
  const told = toldError(parsed(responseBody));
  const answered = statusCode !== undefined && statusCode >= 300;
  // No answer, or one that began well and broke off.
  if (!answered && !told) return connectionError(brokenConnection(error) ?? error.cause ?? error);
  // The library says 500 of an error at the start of a stream that it can't place.
  const status = answered && statusCode !== 500 ? statusCode : (statusOf(told) ?? (answered ? statusCode : undefined));
  return providerError(
    {
      message: told?.message ?? message,
      status,
      details: responseBody,
      transient: true,
      retryAfterMs: retryAfter(responseHeaders, responseBody),
    },
    { cause: error },
  );
}

/** An error in a stream, where there is no HTTP status any more. */
function streamError(told: ToldError, cause: unknown): ModelRequestError {
  return providerError(
    {
      message: told.message ?? 'the provider reported an error in its stream',
      status: statusOf(told),
      details: told.all,
      transient: true,
      retryAfterMs: retryAfter({}, told.all),
    },
    { cause },
  );
}

/** What a provider says of an error. The fields are whatever it sent. */
interface ToldError {
  message?: string;
  /** By which it names the kind of error, the most exact first. */
  names: unknown[];
  /** As JSON. */
  all: string;
}

function isErrorAnswer(value: unknown): boolean {
  const { error, object, type } = { ...first(value) };
  return error != null || object === 'error' || type === 'error' || type === 'response.failed';
}

/** Google's servers put one error into a list. */
function first(value: unknown): Record<string, unknown> | undefined {
  const item: unknown = Array.isArray(value) ? value[0] : value;
  return typeof item === 'object' && item !== null ? (item as Record<string, unknown>) : undefined; // looked into only
}

function toldError(value: unknown): ToldError | undefined {
  const outer = first(value);
  if (!outer) return undefined;
  const inner = outer.error ?? first(outer.response)?.error ?? outer;
  const all = JSON.stringify(value);
  if (typeof inner === 'string') return { message: inner, names: [], all };
  const { message, detail, code, type, status, statusCode } = { ...first(inner) };
  const text = [message, detail].find((words) => typeof words === 'string' && words !== '');
  // 500 is what the library says where it does not know.
  const names = [code, type, status, statusCode === 500 ? undefined : statusCode];
  return { ...(typeof text === 'string' && { message: text }), names, all };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** HTTP statuses by the words in the names of errors: of Anthropic, OpenAI, Google, and servers that speak like these. */
const statusOfName: [RegExp, number][] = [
  [/overloaded/, 529],
  [/rate_?limit|quota|too_many_requests|resource_exhausted/, 429],
  [/timeout|timed_out|deadline/, 504],
  [/unavailable/, 503],
  [/authentication|unauthori[sz]ed|unauthenticated|api_key/, 401],
  [/billing|payment/, 402],
  [/permission|forbidden/, 403],
  [/not_found/, 404],
  [/request_too_large/, 413],
  [/server_error|internal|^api_error$|data_loss/, 500],
  [/invalid|bad_request|unsupported|not_supported|precondition|out_of_range/, 400],
  [/policy|violation|moderation|safety|context_|too_(large|small|long)|max_length|above_max|mismatch/, 400],
  [/^empty_|_parse_error|^failed_to_download/, 400],
];

/** The HTTP status that an error would have had; `undefined` when nothing tells. */
function statusOf(told: ToldError | undefined): number | undefined {
  for (const name of told?.names ?? []) {
    const number = typeof name === 'string' && /^\d{3}$/.test(name) ? Number(name) : name;
    if (typeof number === 'number' && number >= 400 && number < 600) return number;
    if (typeof name !== 'string') continue;
    const words = name
      .replace(/([a-z])([A-Z])/g, '$1_$2')
      .toLowerCase()
      .replace(/[ .-]/g, '_');
    const known = statusOfName.find(([pattern]) => pattern.test(words));
    if (known) return known[1];
  }
  return undefined;
}

const CONNECTION_CODES =
  /^(ECONN\w+|EPIPE|E(TIMEDOUT|AI_AGAIN|NOTFOUND|HOSTUNREACH|NETUNREACH|NETDOWN|PROTO)|UND_ERR_\w+|ERR_(STREAM_PREMATURE_CLOSE|HTTP2_\w+|SOCKET_\w+|TLS_\w+|SSL_\w+)|Connection(Refused|Closed)|FailedToOpenSocket|HPE_\w+)$/;
const CONNECTION_WORDS =
  /^terminated$|fetch failed|failed to fetch|socket hang up|premature close|other side closed|network error|connection (error|closed|reset|lost)/i;

/** The error in the chain of causes by which a connection broke, whatever made it: `fetch` of Node or of anybody. */
function brokenConnection(error: Error): Error | undefined {
  const seen = new Set<Error>();
  let found: Error | undefined;
  for (let at: unknown = error; at instanceof Error && !seen.has(at); at = at.cause) {
    seen.add(at);
    const code: unknown = 'code' in at ? at.code : undefined;
    const broken =
      (typeof code === 'string' && CONNECTION_CODES.test(code)) ||
      CONNECTION_WORDS.test(at.message) ||
      at.name === 'TimeoutError';
    if (broken) found = at; // the deepest says most
  }
  return found;
}

function connectionError(cause: unknown): ModelRequestError {
  // Node's error for a name with several addresses has no message.
  const reason = cause instanceof Error ? cause.message || ('code' in cause && cause.code) || cause.name : cause;
  return new ModelRequestError(`the connection to the provider failed: ${reason}`, { transient: true }, { cause });
}

/** The wait that a provider asks for: in headers, in Google's `RetryInfo`, or only in its words. */
function retryAfter(headers: Record<string, string>, body: string): number | undefined {
  const header = headers['retry-after'] ?? '';
  const [, hours, minutes, amount, unit] =
    /\b(?:retry|try again) in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)(ms|s))?/i.exec(body) ?? [];
  const inWords = Number(hours ?? 0) * 3_600_000 + Number(minutes ?? 0) * 60_000;
  const candidates = [
    Number.parseFloat(headers['retry-after-ms'] ?? ''),
    /^\s*[\d.]+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now(),
    Number.parseFloat(/"retryDelay":\s*"([\d.]+)s"/.exec(body)?.[1] ?? '') * 1000,
    inWords + Number(amount ?? 0) * (unit === 'ms' ? 1 : 1000) || Number.NaN,
  ];
  const ms = candidates.find((candidate) => Number.isFinite(candidate) && candidate >= 0);
  return ms === undefined ? undefined : Math.ceil(ms);
}
