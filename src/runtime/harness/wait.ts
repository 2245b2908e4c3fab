import { setTimeout as sleepFor } from 'node:timers/promises';
import { abortError } from '../../errors.ts';
import { InvalidRequestError, WaitTimeoutError } from '../errors.ts';
import { checkOptions } from '../options.ts';
import type { Mailbox } from '../run/mailbox.ts';
import type { Rest } from '../run/rest.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import type { Operation } from './operation.ts';

const maxNameCharacters = 128;
/** Of one timer of Node. */
const longestMs = 2 ** 31 - 1;

interface Waiting {
  rest: Rest;
  mailbox: Mailbox | undefined;
}

/** @throws {InvalidRequestError} */
export function checkSleep(ms: number, options: object): void {
  checkOptions('sleep', options, { signal: true });
  if (typeof ms !== 'number' || !(ms >= 0) || ms === Number.POSITIVE_INFINITY) {
    throw new InvalidRequestError('a sleep takes milliseconds, 0 or more');
  }
}

/** Waits until the time is over, from the first attempt on. */
export async function runSleep(ms: number, { rest }: Waiting, { signal, step }: Operation): Promise<void> {
  const wakeAt = step.startedAt + ms;
  await rest.waiting({ wakeAt }, async () => {
    for (let leftMs = wakeAt - Date.now(); leftMs > 0; leftMs = wakeAt - Date.now()) {
      await unlessAborted(sleepFor(Math.min(leftMs, longestMs), undefined, { signal }), signal);
    }
  });
}

/** @throws {InvalidRequestError} */
export function checkWait(
  name: string,
  options: { timeoutMs?: number; signal?: AbortSignal },
  { mailbox }: Waiting,
): void {
  checkOptions('waitFor', options, { timeoutMs: true, signal: true });
  checkMessageName(name);
  const { timeoutMs = 1 } = options;
  if (typeof timeoutMs !== 'number' || !(timeoutMs > 0)) throw new InvalidRequestError('timeoutMs must be over 0');
  if (!mailbox) {
    throw new InvalidRequestError(
      'what works for an agent instance can not wait for a message: it gets them by dispatch',
    );
  }
}

/** @throws {InvalidRequestError} */
export function checkMessageName(name: unknown): void {
  if (typeof name !== 'string' || name === '' || name.length > maxNameCharacters) {
    throw new InvalidRequestError(`the name of a message is a text of 1 to ${maxNameCharacters} characters`);
  }
}

/** @throws {WaitTimeoutError} */
export async function runWait(
  name: string,
  timeoutMs: number | undefined,
  { rest, mailbox }: Waiting,
  { signal, step }: Operation,
): Promise<{ seq: number; data: JsonValue }> {
  const wakeAt = step.startedAt + (timeoutMs ?? Number.POSITIVE_INFINITY);
  const taken = await rest.waiting({ wakeAt, message: name }, async () =>
    unlessAborted(mailbox?.take(name, wakeAt, signal), signal),
  );
  if (!taken) throw new WaitTimeoutError({ waitedFor: name, timeoutMs: timeoutMs ?? 0 });
  return taken;
}

/** The reason in place of the error of a timer of Node. */
async function unlessAborted<Result>(waiting: Promise<Result> | undefined, signal: AbortSignal) {
  try {
    return await waiting;
  } catch (error) {
    throw signal.aborted ? abortError(signal.reason) : error;
  }
}
