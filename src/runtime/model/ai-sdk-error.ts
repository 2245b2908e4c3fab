import { APICallError, JSONParseError, TypeValidationError } from '@ai-sdk/provider';
import { ModelRequestError, providerError } from './errors.ts';

/** HTTP statuses of the error types that Anthropic sends in the middle of a stream, where there is no status any more. */
const statusOfType: Record<string, number | undefined> = {
  invalid_request_error: 400,
  authentication_error: 401,
  billing_error: 402,
  permission_error: 403,
  not_found_error: 404,
  request_too_large: 413,
  rate_limit_error: 429,
  api_error: 500,
  timeout_error: 504,
  overloaded_error: 529,
};

/** What the model library threw, or put into its stream, as an error of ours; what it does not know stays as it is. */
export function requestError(error: unknown): unknown {
  if (APICallError.isInstance(error)) return apiError(error);
  if (JSONParseError.isInstance(error) || TypeValidationError.isInstance(error)) {
    return new ModelRequestError('the provider sent what is no valid answer', { transient: true }, { cause: error });
  }
  if (error instanceof Error) {
    // What undici throws when a connection breaks in the middle of a body.
    const broken = error instanceof TypeError && /terminated|fetch failed/.test(error.message);
    return broken ? brokenConnection(error.cause ?? error) : error;
  }
  if (typeof error === 'object' && error !== null) return streamError(error);
  return new ModelRequestError(String(error), { transient: true });
}

function apiError(error: APICallError): ModelRequestError {
  const { statusCode, responseHeaders = {}, responseBody = '', message } = error;
  // No answer, or one that began well and broke off.
  if (statusCode === undefined || statusCode < 300) return brokenConnection(error.cause ?? error);
  // Anthropic's errors at the start of a stream come as 500, whatever their type.
  const typed = statusCode === 500 ? statusOfType[/"type":"(\w+)"/.exec(responseBody)?.[1] ?? ''] : undefined;
  return providerError(
    {
      message,
      status: typed ?? statusCode,
      details: responseBody,
      ...retryAfter(responseHeaders, responseBody),
    },
    { cause: error },
  );
}

function brokenConnection(cause: unknown): ModelRequestError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ModelRequestError(`the connection to the provider failed: ${reason}`, { transient: true }, { cause });
}

/** An error object of the provider's stream. Its fields are whatever the provider sent. */
function streamError(error: object): ModelRequestError {
  const { message, type, code, statusCode } = error as Record<string, unknown>;
  const status = [statusCode, code, typeof type === 'string' ? statusOfType[type] : undefined].find(
    (value) => typeof value === 'number',
  );
  return providerError(
    {
      message: typeof message === 'string' ? message : 'the provider reported an error in its stream',
      status: status ?? 500,
      details: JSON.stringify(error),
    },
    { cause: error },
  );
}

function retryAfter(headers: Record<string, string>, body: string): { retryAfterMs?: number } {
  const inMs = Number(headers['retry-after-ms'] ?? Number.NaN);
  const header = headers['retry-after'];
  const inSeconds = Number(header ?? Number.NaN);
  const at = Date.parse(header ?? '');
  const google = Number(/"retryDelay":\s*"([\d.]+)s"/.exec(body)?.[1] ?? Number.NaN);
  const candidates = [inMs, inSeconds * 1000, at - Date.now(), google * 1000];
  const retryAfterMs = candidates.find((ms) => Number.isFinite(ms) && ms >= 0);
  return retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) };
}
