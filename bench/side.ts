// One side of a comparison in a process of its own: neither works on a heap that the other has filled.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Timed, Turn, type TurnOptions, timeTurn } from './compare.ts';

interface Order extends TurnOptions {
  operation: string;
}

type Answer = { times: number[] } | { error: string };

/** What is timed in this process, by name; for the process that `openSide` starts. It ends when the other one lets go. */
export async function serveSide(operations: Record<string, Timed>): Promise<void> {
  process.on('message', async ({ operation, ...options }: Order) => {
    let answer: Answer;
    try {
      const call = operations[operation];
      if (!call) throw new Error(`there is no operation ${operation}`);
      answer = { times: await timeTurn(call, options) };
    } catch (error) {
      answer = { error: error instanceof Error ? (error.stack ?? error.message) : `${error}` };
    }
    process.send?.(answer);
  });
  process.send?.('open');
  await once(process, 'disconnect');
}

/** Starts a side: a file of this directory that calls `serveSide`. */
export async function openSide(
  file: string,
  ...args: string[]
): Promise<{ turn: (operation: string) => Turn } & AsyncDisposable> {
  const child = fork(join(import.meta.dirname, file), args, { execArgv: ['--import', 'tsx'] });
  const ended = once(child, 'exit');
  const answer = async () => {
    const [message] = await Promise.race([once(child, 'message'), ended.then(([code]) => Promise.reject(gone(code)))]);
    return message;
  };
  const gone = (code: unknown) => new Error(`${file} ended with ${code}`);
  await answer();
  return {
    turn: (operation) =>
      new Turn(async (options) => {
        child.send({ operation, ...options } satisfies Order);
        const given: Answer = await answer();
        if ('error' in given) throw new Error(`${file}, ${operation}: ${given.error}`);
        return given.times;
      }),
    [Symbol.asyncDispose]: async () => {
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}
