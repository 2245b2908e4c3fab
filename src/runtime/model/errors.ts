import { BerthError } from '../../errors.ts';

/** A model name is not of the form `provider/model`. */
export class InvalidModelError extends BerthError<{ model: string }> {
  static {
    InvalidModelError.prototype.name = 'InvalidModelError';
  }
  readonly code = 'invalid_model';
  constructor(meta: { model: string }) {
    super(
      `Model ${JSON.stringify(meta.model)} is not of the form provider/model, as in anthropic/claude-opus-5.`,
      meta,
    );
  }
}

/** The part of a model name before the first slash is no provider that is known here. */
export class ModelNotFoundError extends BerthError<{ model: string }> {
  static {
    ModelNotFoundError.prototype.name = 'ModelNotFoundError';
  }
  readonly code = 'model_not_found';
  constructor(meta: { model: string }, knownProviders: string[]) {
    super(
      `Model ${JSON.stringify(meta.model)} names a provider that is not known; register it or take another.`,
      meta,
      {
        hint: `Known providers: ${knownProviders.join(', ')}. registerProvider() adds more.`,
      },
    );
  }
}

/** An agent without a model was asked for something that needs one. */
export class ModelNotConfiguredError extends BerthError<undefined> {
  static {
    ModelNotConfiguredError.prototype.name = 'ModelNotConfiguredError';
  }
  readonly code = 'model_not_configured';
  constructor() {
    super('No model is configured; set `model` of the agent, of its profile or of the call.', undefined);
  }
}

/** A provider has no API key, or one that can't be. Found at the first request, not before. */
export class ProviderCredentialsError extends BerthError<{ providerId: string }> {
  static {
    ProviderCredentialsError.prototype.name = 'ProviderCredentialsError';
  }
  readonly code = 'provider_credentials';
  constructor(meta: { providerId: string }, problem: string, variables: string[]) {
    const where = variables.length === 0 ? '`apiKey` of its registration' : variables.join(' or ');
    super(`Provider ${meta.providerId} ${problem}; set ${where}.`, meta);
  }
}

/** What is wrong with a registration. */
interface BadRegistration {
  providerId: string;
  /** All that is wrong with it. `path` is where, as in `models["org/x"].cost.input`; empty when it is about the whole. */
  issues: { path: string; message: string }[];
}

/** A registration of a provider that can't be used. `issues` has everything that is wrong with it, not only the first. */
export class ProviderRegistrationError extends BerthError<BadRegistration> {
  static {
    ProviderRegistrationError.prototype.name = 'ProviderRegistrationError';
  }
  readonly code = 'invalid_provider_registration';
  constructor(meta: BadRegistration) {
    const list = meta.issues.map(({ path, message }) => (path === '' ? message : `${path} ${message}`)).join('; ');
    super(`Registration of provider ${JSON.stringify(meta.providerId)}: ${list}.`, meta);
  }
}

/** What failed for want of an answer of a model. */
interface FailedOperation {
  /** As in `prompt`. */
  operation: string;
  /** The words of the provider, or of the connection to it. */
  reason: string;
  /** The HTTP status that the provider answered with. */
  status?: number;
}

/** The model could not be asked, or did not answer, also after all retries. */
export class OperationFailedError extends BerthError<FailedOperation> {
  static {
    OperationFailedError.prototype.name = 'OperationFailedError';
  }
  readonly code = 'operation_failed';
  override readonly status = 502;
  constructor(meta: FailedOperation, options?: ErrorOptions) {
    const status = meta.status === undefined ? '' : ` (HTTP ${meta.status})`;
    super(`${meta.operation} failed: ${meta.reason}${status}`, meta, options);
  }
}

/** The model wanted more turns than the operation may take. */
export class TurnLimitError extends BerthError<{ maxTurns: number }> {
  static {
    TurnLimitError.prototype.name = 'TurnLimitError';
  }
  readonly code = 'turn_limit';
  constructor(meta: { maxTurns: number }) {
    super(`The model was not done after ${meta.maxTurns} turns; raise maxTurns if it should go on.`, meta);
  }
}

/** What is known of a failed request besides its message. */
interface FailedRequest {
  transient: boolean;
  overflow?: boolean | undefined;
  status?: number | undefined;
  retryAfterMs?: number | undefined;
}

/** What `Model.stream` throws for one failed request. The loop asks again when it is `transient`. */
export class ModelRequestError extends Error {
  static {
    ModelRequestError.prototype.name = 'ModelRequestError';
  }
  /** The HTTP status that the provider answered with. */
  readonly status?: number;
  /** Asking again later may work. */
  readonly transient: boolean;
  /** The request was longer than the model takes; a shorter one may work. Never together with `transient`. */
  readonly overflow: boolean;
  /** Milliseconds that the provider asks to wait before the next request. */
  readonly retryAfterMs?: number;

  constructor(message: string, meta: FailedRequest, options?: ErrorOptions) {
    super(message, options);
    this.transient = meta.transient;
    this.overflow = meta.overflow ?? false;
    if (meta.status !== undefined) this.status = meta.status;
    if (meta.retryAfterMs !== undefined) this.retryAfterMs = meta.retryAfterMs;
  }
}

const TRANSIENT_STATUSES = new Set([408, 409, 425, 429, 500, 502, 503, 504, 529]);

/** Google: `PerDay` in the quota's id, and a limit of 0 for what is not part of the plan, come with a delay all the same. */
const SPENT_QUOTA =
  /insufficient[_ ](quota|balance|credits?)|exceeded_current_quota|billing_error|billing_hard_limit|credit balance|PerDay|, limit: 0\b/i;
/** What Google says of its limits per minute too: only the delay that comes with those tells them apart. */
const EXCEEDED_QUOTA = /exceeded your current quota/i;

/** The words in which a request is refused as too long. */
const OVERFLOW = new RegExp(
  [
    'context_length_exceeded', // OpenAI, and many that speak like it
    'exceeds? (the|your)?.{0,30}context (window|length|size|limit)', // OpenAI's Responses API, llama.cpp
    'exceed_context_size_error', // llama.cpp
    'maximum (context|prompt|model) length', // OpenAI, vLLM, SGLang, OpenRouter, DeepSeek, Mistral, xAI
    "model's context length", // Together, SGLang
    'prompt is too long', // Anthropic
    'exceed context limit', // Anthropic, when only the output wanted is too much
    'request_too_large', // Anthropic, by bytes
    'input is too long', // Bedrock
    'input token count.{0,30}exceeds', // Google
    'prompt too long|exceeded max context length', // Ollama
    'greater than the context length|context the overflows', // LM Studio
    'reduce the length of the (messages|input|prompt)', // Groq and others
    'exceeded model token limit', // Moonshot
    'context window exceeds limit', // MiniMax
    'prompt exceeds max length', // Z.ai
    'range of input length should be', // DashScope
    '`inputs` tokens \\+ `max_new_tokens` must be', // Text Generation Inference
    'prompt token count of \\d+ exceeds', // GitHub
    'tokens per min.{0,80}request too large|request too large.{0,200}tokens per min', // one request over the whole limit
  ].join('|'),
  'is',
);

/**
 * What a provider answered instead of a message, sorted into what may pass and what stays.
 * @param answer.details - all that is known of the error, searched for words; not shown
 * @param answer.transient - whether it may pass when neither status nor words tell. Default: false
 */
export function providerError(
  answer: {
    message: string;
    status?: number | undefined;
    details?: string;
    retryAfterMs?: number | undefined;
    transient?: boolean;
  },
  options?: ErrorOptions,
): ModelRequestError {
  const { message, status, details = '', retryAfterMs, transient = false } = answer;
  const words = `${message} ${details}`;
  const overflow = status === 413 || OVERFLOW.test(words);
  const spent = SPENT_QUOTA.test(words) || (EXCEEDED_QUOTA.test(words) && retryAfterMs === undefined);
  const passes = (status === undefined ? transient : TRANSIENT_STATUSES.has(status)) || /overloaded/i.test(words);
  return new ModelRequestError(
    message,
    { transient: passes && !spent && !overflow, overflow, status, retryAfterMs },
    options,
  );
}
