import { checkModel, checkThinkingLevel } from '../define/agent.ts';
import { Problems } from '../define/checks.ts';
import { checkToolItem } from '../define/tool.ts';
import { InvalidRequestError } from '../errors.ts';
import type { ImagePart } from '../model/model.ts';
import { checkOptions } from '../options.ts';
import { jsonSchemaIssues } from '../schema/check.ts';
import { checkImages } from './images.ts';
import type { PromptOptions } from './session.ts';

/** Of a prompt; a task and a skill have more. */
export const promptOptions = {
  result: true,
  tools: true,
  model: true,
  thinkingLevel: true,
  images: true,
  maxTurns: true,
  signal: true,
} as const;

/**
 * @throws {DefinitionError} the schema of the result or a tool of the call is no good one
 * @throws {InvalidRequestError} another argument is not
 */
export function checkPrompt(text: string, options: PromptOptions): void {
  checkOptions('prompt', options, promptOptions);
  const problems = new Problems('The prompt');
  const tools = problems.array(options.tools, 'tools');
  for (const [i, item] of tools.entries()) checkToolItem(problems, item, `tools[${i}]`);
  problems.uniqueNames(tools, 'tools');
  if (options.result !== undefined) problems.addSchema('result', jsonSchemaIssues(options.result));
  problems.optional(options.model, 'model', (value, path) => checkModel(problems, value, path));
  problems.optional(options.thinkingLevel, 'thinkingLevel', (value, path) => checkThinkingLevel(problems, value, path));
  problems.throwIfAny();
  if (typeof text !== 'string') throw new InvalidRequestError('the text of a prompt must be a string');
  const { maxTurns = 1, images = [] } = options;
  if (!Number.isSafeInteger(maxTurns) || maxTurns < 1) {
    throw new InvalidRequestError('maxTurns must be a whole number over 0');
  }
  checkImages(images);
}

/** @throws {InvalidRequestError} providers refuse such a message, and every later request of its conversation */
export function checkText(text: string, images: readonly ImagePart[] = []): void {
  if (text.trim() === '' && images.length === 0)
    throw new InvalidRequestError('a message without images can not be blank');
}
