import { pino } from 'pino';
import type { RuntimeEvent } from '../runtime/events/event.ts';
import type { Model } from '../runtime/model/model.ts';
import { providerIds } from '../runtime/model/providers.ts';
import { createRuntime, type Runtime } from '../runtime/run/runtime.ts';
import type { RuntimeOptions } from '../runtime/run/runtime-options.ts';
import { virtual } from '../runtime/sandbox/virtual.ts';
import { scriptedModel } from './scripted-model.ts';

/** Options of `testRuntime`: those of `createRuntime`, with other defaults. */
export interface TestRuntimeOptions extends Omit<RuntimeOptions, 'store' | 'runRetention'> {
  /** Answers for all models that are given by a name, as in `'openai/gpt-5.1'`. Default: one that refuses each request */
  model?: Model;
}

/** A runtime for a test. */
export interface TestRuntime extends Runtime {
  /** All that it told so far, in order: what `eventMatchers` are for. */
  readonly events: readonly RuntimeEvent[];
}

/**
 * Opens a runtime that asks no provider, starts no container and keeps nothing: its store is in memory, its sandbox, for
 * agents that name none, `virtual()`. Agents see no variable of this machine unless `env` is given, and nothing is logged
 * unless `logger` is. It ends with the test by `await using`.
 * @throws {DefinitionError} an option is not known, or not of its type
 * @example
 * await using runtime = await testRuntime({ model: scriptedModel(['All is well.']) });
 * expect(await (await runtime.invoke(review)).result()).toBe('All is well.');
 */
export async function testRuntime(options: TestRuntimeOptions = {}): Promise<TestRuntime> {
  const { model = scriptedModel([]), models, ...given } = options;
  const stands = Object.fromEntries(providerIds().map((id) => [id, model]));
  const runtime = await createRuntime({
    sandbox: virtual(),
    logger: pino({ level: 'silent' }),
    env: {},
    ...given,
    models: { ...stands, ...models },
    store: ':memory:',
  });
  const events: RuntimeEvent[] = [];
  runtime.observe((event) => events.push(event));
  return Object.assign(runtime, { events });
}
