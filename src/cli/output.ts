import { complain, exitCodes } from './failure.ts';

/** What a shell says of a command whose reader went away: 128 and the number of SIGPIPE. */
export const brokenPipe = 141;

let failure: NodeJS.ErrnoException | undefined;

/** Lets a command end as it should where standard output can't be written to: `exitWith` says so. */
export function guardOutput(): void {
  process.stdout.on('error', (error) => {
    failure ??= error;
  });
  process.stderr.on('error', () => {}); // nobody is there to be told
}

/** Whether standard output can't be written to any more. */
export function isOutputLost(): boolean {
  return failure !== undefined;
}

/** Prints the one JSON value of a command with `--json`. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Says something for people on standard error, when somebody is there to see it. */
export function sayProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${text}\n`);
}

/** Ends the process when all that was printed is written. What a workflow left running does not keep it. */
export async function exitWith(code: number): Promise<never> {
  await written(process.stdout);
  // A reader that has enough is no fault to speak of: `berth … | head`.
  const isFault = failure !== undefined && failure.code !== 'EPIPE';
  if (isFault) complain(`Standard output can't be written to: ${failure?.message}`, failure);
  await written(process.stderr);
  process.exit(isFault ? exitCodes.failed : failure ? brokenPipe : code);
}

function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()));
}
