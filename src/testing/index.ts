/**
 * What tests of actions and agents need: a runtime in memory, models that are scripted or recorded, matchers for events.
 * @module berth/testing
 */

export { RecordingError, RecordingMismatchError } from './errors.ts';
export { type EventMatchers, type ExpectedEvent, eventMatchers } from './event-matchers.ts';
export { type RecordedModel, type RecordedModelOptions, recordedModel } from './recorded-model.ts';
export { type ScriptedAnswer, type ScriptedModel, type ScriptedTurn, scriptedModel } from './scripted-model.ts';
export { type TestRuntime, type TestRuntimeOptions, testRuntime } from './test-runtime.ts';
