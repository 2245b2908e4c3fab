import type { ToolDefinition } from '../define/tool.ts';
import { ToolInputValidationError, ToolOutputSerializationError, ToolOutputValidationError } from '../errors.ts';
import type { Emit } from '../events/event.ts';
import { eventLog } from '../events/log.ts';
import type { Place } from '../harness/operation.ts';
import { type LoopTool, ReadyResult, textResult } from '../model/tool.ts';
import { inputJsonSchema } from '../schema/json-schema.ts';
import { outputJson } from '../schema/output.ts';
import { parse } from '../schema/parse.ts';
import type { JsonValue } from '../schema/snapshot.ts';

const defaultTimeoutMs = 600_000;

/** A tool of the application, as the loop runs it in an operation. */
export function customTool(
  tool: ToolDefinition,
  { emit, place }: { emit: Emit; place: Pick<Place, 'maxValueBytes'> },
): LoopTool {
  const { name, description, timeoutMs = defaultTimeoutMs } = tool;
  return {
    name,
    description,
    parameters: inputJsonSchema(tool.input),
    timeoutMs,
    ...(tool.sequential && { order: 'sequential' }),
    async run(input, { toolCallId, signal }) {
      const log = eventLog(emit, { tool: name, toolCallId });
      const context = { signal, toolCallId, log, ...(tool.input && { input: checkedInput(tool, input) }) };
      const run = tool.run as (context: object) => unknown; // its context is the one made here
      const returned = await run(context);
      if (returned instanceof ReadyResult) return returned.result;
      const output = checkedOutput(tool, returned, place.maxValueBytes);
      return textResult(typeof output === 'string' ? output : JSON.stringify(output), { details: output });
    },
  };
}

function checkedInput(tool: ToolDefinition, input: unknown): unknown {
  if (!tool.input) return undefined;
  const parsed = parse(tool.input, input);
  if (!parsed.success) throw new ToolInputValidationError({ tool: tool.name, issues: parsed.issues });
  return parsed.output;
}

function checkedOutput({ name: tool, output }: ToolDefinition, returned: unknown, maxBytes: number): JsonValue {
  return outputJson({ schema: output, maxBytes }, returned, {
    invalid: (issues) => new ToolOutputValidationError({ tool, issues }),
    notJson: (found, cause) => new ToolOutputSerializationError({ tool, ...found }, { cause }),
  });
}
