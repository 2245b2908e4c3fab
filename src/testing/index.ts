export { RecordingError, RecordingMismatchError } from './errors.ts';
export { type EventMatchers, type ExpectedEvent, eventMatchers } from './event-matchers.ts';
export { type RecordedModel, type RecordedModelOptions, recordedModel } from './recorded-model.ts';
export { type ScriptedAnswer, type ScriptedModel, type ScriptedTurn, scriptedModel } from './scripted-model.ts';
