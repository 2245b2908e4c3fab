import type { AgentDefinition } from '../define/agent.ts';
import { InvalidRequestError } from '../errors.ts';
import type { ImagePart } from '../model/model.ts';
import { checkOptions, jsonArgument } from '../options.ts';
import { checkText } from '../session/check-prompt.ts';
import { checkImages } from '../session/images.ts';
import type { Payload } from './instance.ts';

/** `instance` is which instance of the agent: an id that the application chooses. `id` is the same. */
type InstanceOf = { instance: string; id?: undefined } | { id: string; instance?: undefined };

/** `message` is the words of a person; `input` any JSON value, which the model gets as data. */
type Content = { message: string; input?: undefined } | { input: unknown; message?: undefined };

/** A message for an agent instance: which instance, and exactly one of `message` and `input`. */
export type DispatchOptions = InstanceOf &
  Content & {
    /** Up to 14 MiB each. */
    images?: readonly ImagePart[];
    /** The same key and payload give the first receipt. */
    key?: string;
  };

/** Both arguments of `dispatch` in one. */
export type DispatchRequest = DispatchOptions & { agent: string | AgentDefinition };

/** Of either form of the call. @throws {InvalidRequestError} */
export function dispatchArguments(
  first: string | AgentDefinition | DispatchRequest,
  options: DispatchOptions | undefined,
): [target: string | AgentDefinition, options: DispatchOptions] {
  if (options !== undefined) return [first as string | AgentDefinition, options]; // the first overload
  if (typeof first === 'object' && first !== null && 'agent' in first) {
    const { agent, ...rest } = first;
    return [agent, rest];
  }
  throw new InvalidRequestError('dispatch needs an agent, an instance and a message or input');
}

/** @throws {InvalidRequestError} */
export function checkDispatch(
  options: DispatchOptions,
  maxBytes: number,
): { id: string; payload: Payload; key?: string } {
  checkOptions('dispatch', options, {
    instance: true,
    id: true,
    message: true,
    input: true,
    images: true,
    key: true,
  });
  const { message, input, images = [], key } = options;
  const id = options.instance ?? options.id;
  checkInstanceId(id);
  if (options.instance !== undefined && options.id !== undefined) {
    throw new InvalidRequestError('instance and id are the same: give one of them');
  }
  if ((message === undefined) === (input === undefined)) {
    throw new InvalidRequestError('exactly one of message and input is given');
  }
  if (message !== undefined && typeof message !== 'string') throw new InvalidRequestError('a message is a text');
  if (key !== undefined && typeof key !== 'string') throw new InvalidRequestError('a key is a text');
  checkImages(images);
  if (message !== undefined) checkText(message, images);
  const content = message === undefined ? { input: jsonArgument(input, 'input', maxBytes) } : { message };
  const kept = images.map(({ data, mimeType }): ImagePart => ({ type: 'image', data, mimeType }));
  return { id, payload: { ...content, images: kept }, ...(key !== undefined && { key }) };
}

/** @throws {InvalidRequestError} */
export function checkInstanceId(id: unknown): asserts id is string {
  if (typeof id !== 'string' || id.trim() === '' || id.length > 256 || /\p{Cc}/u.test(id)) {
    throw new InvalidRequestError(
      'the id of an instance is a text of 1 to 256 characters, which is not blank and has no control characters',
    );
  }
}
