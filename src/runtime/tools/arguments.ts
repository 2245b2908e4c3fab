import type { JSONSchema7 } from '@ai-sdk/provider';
import type * as v from 'valibot';
import type { CallContext, LoopTool, ToolResult } from '../model/tool.ts';
import { issueText } from '../schema/issue.ts';
import { inputJsonSchema } from '../schema/json-schema.ts';
import { parse } from '../schema/parse.ts';

interface CheckedTool<Input extends v.GenericSchema>
  extends Pick<LoopTool, 'name' | 'description' | 'order' | 'isResumable' | 'delegates'> {
  input: Input;
  run(input: v.InferOutput<Input>, context: CallContext): Promise<ToolResult>;
}

/** A built-in tool: its arguments are checked, after `"5"` was taken for 5 and `"true"` for true where these are due. */
export function checkedTool<Input extends v.GenericSchema>(tool: CheckedTool<Input>): LoopTool {
  const { name, description, input: schema, order, isResumable, delegates } = tool;
  const parameters = inputJsonSchema(schema);
  return {
    name,
    description,
    parameters,
    ...(order && { order }),
    ...(isResumable && { isResumable }),
    ...(delegates && { delegates }),
    async run(input, context) {
      const parsed = parse(schema, unquoted(input, parameters));
      if (!parsed.success) {
        const issues = parsed.issues.map((issue) => issueText(issue, 'arguments')).join('; ');
        throw new Error(`The arguments of ${name} are not valid: ${issues}. Call it again with valid ones.`);
      }
      return tool.run(parsed.output as v.InferOutput<Input>, context); // what `parse` gives is the schema's output
    },
  };
}

/** The same arguments, with numbers and booleans that a model wrote as strings in their own type. */
function unquoted(input: unknown, { properties = {} }: JSONSchema7): unknown {
  if (typeof input !== 'object' || input === null) return input;
  return Object.fromEntries(
    Object.entries(input).map(([key, value]) => {
      const property = properties[key];
      const type = typeof property === 'object' ? property.type : undefined;
      return [key, typeof value === 'string' ? unquotedValue(value, type) : value];
    }),
  );
}

function unquotedValue(text: string, type: JSONSchema7['type']): unknown {
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  if ((type === 'integer' || type === 'number') && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  return text;
}
