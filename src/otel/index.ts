export { type SpanOptions, type SpanWriter, spanWriter } from './span-writer.ts';
