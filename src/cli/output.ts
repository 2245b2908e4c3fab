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
  // A reader that is gone makes no difference here.
  const written = (stream: NodeJS.WriteStream) => new Promise<void>((resolve) => stream.write('', () => resolve()));
  await Promise.all([written(process.stdout), written(process.stderr)]);
  process.exit(code);
}
