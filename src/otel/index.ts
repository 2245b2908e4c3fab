/**
 * Spans of OpenTelemetry, made of events.
 * @module berth/otel
 */

export { type SpanOptions, type SpanWriter, spanWriter } from './span-writer.ts';
