import { readFile } from 'node:fs/promises';
import {
  ActionInputValidationError,
  createRuntime,
  InvalidModelError,
  ModelNotFoundError,
  type RuntimeEvent,
  type WorkflowDefinition,
} from '../../index.ts';
import type { InvokeOptions } from '../../runtime/run/invoke.ts';
import type { RunHandle } from '../../runtime/run/run.ts';
import type { Runtime } from '../../runtime/run/runtime.ts';
import { issueText } from '../../runtime/schema/issue.ts';
import { UsageError } from '../errors.ts';
import { complain, exitCodes, failedWork } from '../failure.ts';
import { Interruption } from '../interruption.ts';
import { loadWorkflow } from '../load-workflow.ts';
import { brokenPipe, printJson } from '../output.ts';
import { RunView } from '../print/run-view.ts';
import { openScreen } from '../print/screen.ts';
import { valueLines } from '../print/value.ts';
import { reportImports } from '../report-imports.ts';

export interface RunOptions {
  input?: string;
  inputFile?: string;
  model?: string;
  json?: boolean;
  /** Started by `berth run --watch`. */
  watched?: boolean;
}

/** Of a run that gives way to the next one; nobody looks at it. */
const stopped = 130;

/** Runs a workflow to its end, shown live or, with `--json`, as its events. */
export async function run(target: string, options: RunOptions): Promise<number> {
  let view: RunView | undefined;
  const interruption = new Interruption({
    onFirst: () => {
      if (view) view.status = 'stopping: ends the commands and removes the sandbox';
    },
  });
  if (options.watched) reportImports(() => interruption.stop(stopped));
  process.stdout.on('error', () => interruption.stop(brokenPipe));
  const input = await readInput(options);
  const { name, workflow } = await loadWorkflow(target);
  // What another one of this name has left is not what was asked for, and a run ends with its command.
  const runtime = await createRuntime({ workflows: { [name]: workflow }, recover: false });
  try {
    if (options.json) runtime.observe(printEvent);
    else view = showLive(runtime, name, workflow);
    const { model } = options;
    const invocation = { ...(input !== undefined && { input }), ...(model !== undefined && { model }) };
    const handle = await start(runtime, workflow, { ...invocation, signal: interruption.signal });
    if (handle === undefined) return interruption.code ?? exitCodes.usage;
    const outcome = await handle.result().then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
    await runtime.close(); // before the last line: then all is put away
    view?.close();
    if (options.json) printJson({ type: 'run', record: await handle.record() });
    if (interruption.code !== undefined) return interruption.code;
    if ('error' in outcome) return failedWork(outcome.error);
    if (!options.json) printResult(outcome.value);
    return 0;
  } finally {
    await runtime.close();
    view?.close();
  }
}

/** Not `turn_request`, which holds the whole conversation each time, and is no event of the record. */
function printEvent(event: RuntimeEvent): void {
  if (event.type !== 'turn_request') printJson(event);
}

function showLive(runtime: Runtime, name: string, { action }: WorkflowDefinition): RunView {
  const view = new RunView(openScreen(process.stdout), { workflow: name, action: action.name });
  runtime.observe((event) => view.add(event));
  return view;
}

/** `undefined`: it was not started, and why has been said. */
async function start(
  runtime: Runtime,
  workflow: WorkflowDefinition,
  invocation: InvokeOptions & { signal: AbortSignal },
): Promise<RunHandle | undefined> {
  try {
    return await runtime.invoke(workflow, invocation);
  } catch (error) {
    if (invocation.signal.aborted) return undefined;
    if (error instanceof InvalidModelError || error instanceof ModelNotFoundError) {
      throw new UsageError(`${error.message} ${error.hint ?? ''}`.trim(), { cause: error });
    }
    if (!(error instanceof ActionInputValidationError)) throw error;
    for (const issue of error.meta.issues) complain(`The input does not fit: ${issueText(issue, 'input')}`);
    return undefined;
  }
}

function printResult(value: unknown): void {
  if (value === null || value === undefined) return;
  const screen = openScreen(process.stdout);
  screen.print(['', ...valueLines(value, screen.style, screen.columns)]);
}

export async function readInput({ input, inputFile }: RunOptions): Promise<unknown> {
  if (input !== undefined && inputFile !== undefined) {
    throw new UsageError('Give the input by --input or by --input-file, not by both.');
  }
  if (inputFile !== undefined) {
    const text = await readFile(inputFile, 'utf8').catch((error: Error) => {
      throw new UsageError(`The input can't be read: ${error.message}`, { cause: error });
    });
    return parse(text, inputFile);
  }
  return input === undefined ? undefined : parse(input, '--input');
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${where} is not JSON: ${reason}. Example: --input '{"file":"src/cart.ts"}'`, {
      cause: error,
    });
  }
}
