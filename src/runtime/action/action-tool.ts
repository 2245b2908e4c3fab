import type { ActionDefinition } from '../define/action.ts';
import { ActionInputValidationError } from '../errors.ts';
import { recordedError } from '../events/recorded-error.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import type { Operation } from '../harness/operation.ts';
import { type LoopTool, textResult } from '../model/tool.ts';
import { inputJsonSchema } from '../schema/json-schema.ts';

const maxErrorBytes = 4 * 1024;

/** An action as a model sees it: a tool, whose call runs in a child harness. */
export function actionTool(action: ActionDefinition, harness: OpenHarness, operation: Operation): LoopTool {
  return {
    name: action.name,
    description: action.description,
    parameters: inputJsonSchema(action.input),
    isResumable: true,
    delegates: true,
    async run(input, { toolCallId, signal }) {
      const step = operation.step.toolCall(toolCallId);
      try {
        const output = await harness.runAction(action, input, { ...operation, signal, step }, { toolCallId });
        return textResult(JSON.stringify(output), { details: output });
      } catch (error) {
        if (signal.aborted) throw error;
        // Masked before it is cut: a part of a secret would not be known.
        const message = harness.parts.journal.masker.text(recordedError(error).message);
        // One of the same action, not of another that it ran.
        const isOwn = error instanceof ActionInputValidationError && error.meta.action === action.name;
        const advice = isOwn ? ' Call it again with an input that fits.' : '';
        return textResult(cut(message) + advice, { isError: true });
      }
    },
  };
}

function cut(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= maxErrorBytes) return text;
  // A character that the cut goes through is left out as well.
  return `${new TextDecoder().decode(bytes.subarray(0, maxErrorBytes), { stream: true })} …`;
}
