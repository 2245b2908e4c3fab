import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import type { LanguageModelV3 } from '@ai-sdk/provider';
import { Problems } from '../define/checks.ts';
import { Masker } from '../events/masker.ts';
import { pathText } from '../schema/path.ts';
import { aiSdkModel } from './ai-sdk.ts';
import {
  InvalidModelError,
  ModelNotFoundError,
  ProviderCredentialsError,
  ProviderRegistrationError,
} from './errors.ts';
import { knownModel, type ModelFacts } from './known-models.ts';
import type { Model, ModelPrices } from './model.ts';

const apis = ['anthropic-messages', 'openai-responses', 'openai-completions', 'google-generative-ai'] as const;

/** The wire formats that providers are spoken to in. */
export type ProviderApi = (typeof apis)[number];

/** How to reach a provider. For `anthropic`, `openai`, `google` and `openrouter` every field has a default. */
export interface ProviderRegistration {
  /** The wire format. Needed for a provider that is not known. */
  api?: ProviderApi;
  /** With the version, as in `https://api.example.com/v1`. Needed for a provider that is not known. */
  baseUrl?: string;
  /**
   * Masked wherever it is told or kept. Default: the usual variable of a provider that is known (`OPENAI_API_KEY`, say),
   * read at the first request; none for another one
   */
  apiKey?: string;
  /** Sent with each request. */
  headers?: Record<string, string>;
  /** Tokens of request and answer together; for models that `models` says nothing of. Default: what is known of each */
  contextWindow?: number;
  /** Tokens of an answer; for models that `models` says nothing of. Default: what is known of each */
  maxTokens?: number;
  /** By model id; what is not said here is what is known of it. */
  models?: Record<string, ModelFacts>;
  /** Let OpenAI's Responses API keep the answers. Default: false */
  storeResponses?: boolean;
}

const registrationFields = Object.keys({
  api: true,
  baseUrl: true,
  apiKey: true,
  headers: true,
  contextWindow: true,
  maxTokens: true,
  models: true,
  storeResponses: true,
} satisfies Record<keyof ProviderRegistration, true>);

const factFields = Object.keys({
  contextWindow: true,
  maxTokens: true,
  cost: true,
  seesImages: true,
} satisfies Record<keyof ModelFacts, true>);

const priceFields = Object.keys({
  input: true,
  output: true,
  cacheRead: true,
  cacheWrite: true,
} satisfies Record<keyof ModelPrices, true>);

/** A provider of the AI SDK, version 6. */
export interface AiSdkProvider {
  /** The model of that id. */
  languageModel(modelId: string): LanguageModelV3;
}

/** What stands for a provider id: all its models, or one model that answers to any of its names. */
export type ModelSource = ProviderRegistration | AiSdkProvider | Model;

type Environment = Record<string, string | undefined>;

/** What is known of a provider before anybody registers it. */
interface KnownProvider {
  api: ProviderApi;
  baseUrl: string;
  variables: string[];
}

const knownProviders = new Map<string, KnownProvider>([
  [
    'anthropic',
    { api: 'anthropic-messages', baseUrl: 'https://api.anthropic.com/v1', variables: ['ANTHROPIC_API_KEY'] },
  ],
  ['openai', { api: 'openai-responses', baseUrl: 'https://api.openai.com/v1', variables: ['OPENAI_API_KEY'] }],
  [
    'google',
    {
      api: 'google-generative-ai',
      baseUrl: 'https://generativelanguage.googleapis.com/v1beta',
      variables: ['GOOGLE_GENERATIVE_AI_API_KEY', 'GEMINI_API_KEY'],
    },
  ],
  [
    'openrouter',
    { api: 'openai-completions', baseUrl: 'https://openrouter.ai/api/v1', variables: ['OPENROUTER_API_KEY'] },
  ],
]);

const registered = new Map<string, ModelSource>();
/** Also those of providers that were replaced. */
const registeredSecrets = new Masker();

/**
 * Makes a provider known to all runtimes of this process, or replaces what its id stood for.
 * @param id - what stands before the slash in `provider/model`
 * @throws {ProviderRegistrationError} something that is needed is missing or wrong
 * @example registerProvider('local', { api: 'openai-completions', baseUrl: 'http://127.0.0.1:11434/v1' });
 */
export function registerProvider(id: string, source: ModelSource): void {
  checkSource(id, source);
  addSecrets(registeredSecrets, source);
  registered.set(id, source);
}

/** Of the providers that all runtimes of this process know. */
export function providerIds(): string[] {
  return [...new Set([...knownProviders.keys(), ...registered.keys()])];
}

/** The models of one runtime: its own sources, then those of the process, then the providers that are known. */
export class Models {
  readonly #own: Map<string, ModelSource>;
  readonly #environment: Environment;
  /** Knows the keys of all its providers, as far as they were given here or stand in variables. */
  readonly secrets = new Masker(registeredSecrets);

  /** @param own - by provider id */
  constructor(own: Record<string, ModelSource> = {}, environment: Environment = process.env) {
    for (const [id, source] of Object.entries(own)) checkSource(id, source);
    this.#own = new Map(Object.entries(own));
    this.#environment = environment;
    for (const source of this.#own.values()) addSecrets(this.secrets, source);
    for (const variables of [environment, process.env]) this.secrets.addNamed(variables);
  }

  /**
   * The model that `provider/model` names. Nothing is asked for yet, so a missing key shows at the first request.
   * @throws {InvalidModelError} the name has another form
   * @throws {ModelNotFoundError} the provider is not known
   */
  resolve(model: string | Model): Model {
    if (typeof model !== 'string') return model;
    const slash = model.indexOf('/');
    const [provider, id] = [model.slice(0, slash), model.slice(slash + 1)];
    if (slash < 1 || id === '') throw new InvalidModelError({ model });
    const source =
      this.#own.get(provider) ?? registered.get(provider) ?? (knownProviders.has(provider) ? {} : undefined);
    if (!source) {
      throw new ModelNotFoundError({ model }, [...new Set([...providerIds(), ...this.#own.keys()])]);
    }
    if (isModel(source)) return source;
    if (isAiSdkProvider(source)) return foreignModel(provider, id, source);
    return registeredModel(provider, id, source, this.#environment);
  }
}

function addSecrets(masker: Masker, source: ModelSource): void {
  if (isModel(source) || isAiSdkProvider(source)) return;
  masker.add(source.apiKey ?? '');
  masker.addNamed(source.headers);
}

function isModel(source: ModelSource): source is Model {
  return 'stream' in source && typeof source.stream === 'function';
}

function isAiSdkProvider(source: ModelSource): source is AiSdkProvider {
  return 'languageModel' in source && typeof source.languageModel === 'function';
}

function registeredModel(provider: string, id: string, given: ProviderRegistration, environment: Environment): Model {
  const known = knownProviders.get(provider);
  const { api, baseUrl } = { ...known, ...given };
  // `checkSource` has seen that an unknown provider brings both.
  if (api === undefined || baseUrl === undefined) throw new Error(`provider ${provider} has no api or baseUrl`);
  const ownFacts = new Map(Object.entries(given.models ?? {})).get(id);
  const facts = { ...knownModel(provider, id), ...registeredFacts(given), ...ownFacts };

  const make = (): LanguageModelV3 => {
    const settings = { baseURL: baseUrl, apiKey: apiKey(provider, given, environment), headers: given.headers ?? {} };
    switch (api) {
      case 'anthropic-messages':
        return createAnthropic(settings)(id);
      case 'openai-responses':
        return createOpenAI(settings).responses(id);
      case 'openai-completions':
        return createOpenAI(settings).chat(id);
      case 'google-generative-ai':
        return createGoogleGenerativeAI(settings)(id);
    }
  };
  const { storeResponses } = given;
  return aiSdkModel({
    provider,
    id,
    make,
    api,
    baseUrl,
    ...facts,
    ...(storeResponses !== undefined && { storeResponses }),
  });
}

/** Servers of one's own often want no key; the libraries do, or look for a variable that is not meant for them. */
function apiKey(providerId: string, { apiKey: given }: ProviderRegistration, environment: Environment): string {
  const variables = knownProviders.get(providerId)?.variables;
  const fromVariable = variables?.map((name) => environment[name]).find((value) => value !== undefined && value !== '');
  const key = (given ?? fromVariable)?.trim();
  if (!key) {
    if (variables) throw new ProviderCredentialsError({ providerId }, 'has no API key', variables);
    return 'none';
  }
  // `fetch` would quote it in its error.
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new ProviderCredentialsError(
      { providerId },
      'has an API key with characters that no key has',
      variables ?? [],
    );
  }
  return key;
}

function registeredFacts({ contextWindow, maxTokens }: ProviderRegistration): ModelFacts {
  return { ...(contextWindow !== undefined && { contextWindow }), ...(maxTokens !== undefined && { maxTokens }) };
}

function foreignModel(provider: string, id: string, source: AiSdkProvider): Model {
  const model = source.languageModel(id);
  const version: string = model.specificationVersion;
  if (version !== 'v3') {
    const message = `gives models of specification ${version}; the packages for version 6 of the AI SDK are needed`;
    throw new ProviderRegistrationError({ providerId: provider, issues: [{ path: '', message }] });
  }
  return aiSdkModel({ provider, id, make: () => model, api: apiOf(model.provider), ...knownModel(provider, id) });
}

/** The wire format behind a model of the AI SDK, by the name that its provider package gives it. */
function apiOf(sdkProvider: string): ProviderApi | undefined {
  switch (sdkProvider) {
    case 'anthropic.messages':
      return 'anthropic-messages';
    case 'openai.responses':
      return 'openai-responses';
    case 'openai.chat':
      return 'openai-completions';
    case 'google.generative-ai':
      return 'google-generative-ai';
    default:
      return undefined;
  }
}

function checkSource(id: string, source: ModelSource): void {
  const problems = new Problems('The registration');
  if (typeof id !== 'string' || id === '' || id.includes('/')) {
    problems.add('', 'the id must be a string that is not empty and holds no slash');
  }
  if ((typeof source !== 'object' && typeof source !== 'function') || source === null) {
    problems.add('', 'must be a registration, a provider of the AI SDK or a Model');
  } else if (isModel(source)) {
    problems.text(source.provider, 'provider');
    problems.text(source.id, 'id');
  } else if (!isAiSdkProvider(source)) checkRegistration(id, source, problems);
  const { issues } = problems;
  if (issues.length > 0) throw new ProviderRegistrationError({ providerId: String(id), issues });
}

function checkRegistration(id: string, source: ProviderRegistration, problems: Problems): void {
  const fields = problems.record(source, '', { known: registrationFields, advice: { baseURL: 'is written baseUrl' } });
  for (const name of ['api', 'baseUrl']) {
    if (fields[name] === undefined && !knownProviders.has(id)) {
      problems.add(name, 'is needed for a provider that is not known');
    }
  }
  problems.optional(fields.api, 'api', (api, path) => problems.oneOf(api, path, apis));
  problems.optional(fields.baseUrl, 'baseUrl', (url, path) => {
    const isHttp = typeof url === 'string' && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
    if (!isHttp) problems.add(path, 'must be an http or https URL');
  });
  problems.optional(fields.apiKey, 'apiKey', (key, path) => problems.text(key, path));
  for (const [name, value] of problems.entries(fields.headers, 'headers')) {
    const path = pathText('headers', [name]);
    if (typeof value !== 'string') problems.add(path, 'must be a string');
    else if (!isHeader(name, value)) problems.add(path, 'is no header that can be sent'); // its value may be a secret
  }
  checkSizes(fields, '', problems);
  for (const [model, facts] of problems.entries(fields.models, 'models')) {
    const path = pathText('models', [model]);
    const known = problems.record(facts, path, { known: factFields });
    checkSizes(known, `${path}.`, problems);
    problems.optional(known.cost, `${path}.cost`, (cost, at) => checkPrices(cost, at, problems));
    problems.optional(known.seesImages, `${path}.seesImages`, (value, at) => problems.boolean(value, at));
  }
  problems.optional(fields.storeResponses, 'storeResponses', (value, path) => problems.boolean(value, path));
}

function checkSizes(fields: Record<string, unknown>, prefix: string, problems: Problems): void {
  for (const name of ['contextWindow', 'maxTokens']) {
    problems.optional(fields[name], `${prefix}${name}`, (value, path) => problems.positiveInteger(value, path));
  }
}

function checkPrices(value: unknown, path: string, problems: Problems): void {
  const prices = problems.record(value, path, { known: priceFields });
  if (prices !== value) return; // no record at all: that is said
  for (const name of priceFields) {
    const price = prices[name];
    if (price === undefined && name.startsWith('cache')) continue;
    if (typeof price !== 'number' || !(price >= 0 && price < Number.POSITIVE_INFINITY)) {
      problems.add(`${path}.${name}`, 'must be a number of dollars, 0 or more');
    }
  }
}

function isHeader(name: string, value: string): boolean {
  try {
    new Headers({ [name]: value });
    return true;
  } catch {
    return false;
  }
}
