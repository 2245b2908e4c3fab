import { parseArgs } from 'node:util';
import { createRuntime, type RuntimeEvent } from 'berth';
import { approveAndMerge } from './workflow.ts';

const { positionals } = parseArgs({ allowPositionals: true });
const [command, id = 'fix-1', by = process.env.USER ?? 'somebody'] = positionals;

if (command === 'start') await start();
else if (command === 'approve' || command === 'refuse') await answer(command === 'approve');
else {
  console.error('main.ts start [ID] | approve [ID] [NAME] | refuse [ID] [NAME]');
  process.exitCode = 2;
}

/** Starts the run of an id or, where it was started before, goes on with it. */
async function start(): Promise<void> {
  await using runtime = await createRuntime({ workflows: { 'approve-and-merge': approveAndMerge } });
  const run = await runtime.invoke(approveAndMerge, { id });
  const shown = (async () => {
    for await (const event of run.events()) show(event); // those of earlier processes, too
  })();
  const { merged, by, log } = await run.result();
  await shown;
  console.log(`${merged ? 'Merged' : 'Not merged'}, as ${by} decided. main has:\n${log.trim()}`);
}

/** Works on nothing: the run may be under way in another process, or be suspended. */
async function answer(approved: boolean): Promise<void> {
  await using runtime = await createRuntime({ recover: false });
  await (await runtime.run(id)).send('review', { approved, by }, { key: 'review' }); // the first answer counts
  console.log('The run has your answer.');
}

function show(event: RuntimeEvent): void {
  if (event.type === 'run_resume') console.log(`Goes on (attempt ${event.attempt}).`);
  else if (event.type === 'tool_start') console.log(`${event.toolName} ${JSON.stringify(event.args)}`);
  else if (event.type === 'data' && event.name === 'to review') {
    const { text, diff } = event.data as { text: string; diff: string }; // the workflow emits that
    console.log(`${text}\n\n${diff}\nTo approve it: npx tsx examples/approve-and-merge/main.ts approve ${id}`);
  }
}
