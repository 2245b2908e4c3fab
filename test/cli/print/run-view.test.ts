import { pino } from 'pino';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { RunView } from '../../../src/cli/print/run-view.ts';
import { type Screen, TerminalScreen } from '../../../src/cli/print/screen.ts';
import { createStyle } from '../../../src/cli/print/style.ts';
import {
  createRuntime,
  defineAction,
  defineAgent,
  defineWorkflow,
  local,
  type RuntimeEvent,
} from '../../../src/index.ts';
import { type ScriptedTurn, scriptedModel } from '../../../src/testing/index.ts';
import { Terminal } from './terminal.ts';

class Lines implements Screen {
  readonly style = createStyle(false);
  readonly columns = 60;
  readonly liveRows = 0;
  readonly lines: string[] = [];
  print(lines: readonly string[]): void {
    this.lines.push(...lines);
  }
  live(): void {}
  close(): void {}
}

/** Runs a model with these turns, and an action that it may call; shows it on the screen. */
async function show(turns: ScriptedTurn[], screen: Screen): Promise<void> {
  const greet = defineAction({
    name: 'greet',
    description: 'Greets.',
    input: v.object({ name: v.string() }),
    async run({ harness, input }) {
      const session = await harness.session();
      return (await session.prompt(`Greet ${input.name}.`, { model: scriptedModel(['Hello!']) })).text;
    },
  });
  const agent = defineAgent(() => ({
    model: scriptedModel(turns),
    actions: [greet],
    builtinTools: false as const,
    workspaceContext: false,
  }));
  const workflow = defineWorkflow({
    name: 'shown',
    agent,
    async run({ harness, log }) {
      log.info('It starts.');
      const session = await harness.session();
      await session.prompt('Do it.');
      await harness.run(greet, { name: 'Bob' });
      await harness.step('ask', () => 1);
      await harness
        .step('tell', () => {
          throw new Error('nobody there');
        })
        .catch(() => {});
    },
  });
  await using runtime = await createRuntime({ store: ':memory:', sandbox: local(), logger: pino({ level: 'silent' }) });
  const view = new RunView(screen, { workflow: 'shown', action: 'do_it' });
  runtime.observe((event) => view.add(event));
  const run = await runtime.invoke(workflow);
  await run.result();
  view.close();
}

test('shows workflow, action, session, child action and text as a tree', async () => {
  const screen = new Lines();
  await show([{ text: 'I call it.', toolCalls: [{ name: 'greet', input: { name: 'Ada' } }] }, 'Done.'], screen);
  const tree = screen.lines.map((line) => line.replace(/ *\d+(?:\.\d)?m?s$/, '').replace(/ *run_\w+$/, ''));
  expect(tree).toEqual([
    '◆ workflow shown',
    '│ ◆ action do_it',
    '│ │ · It starts.',
    '│ │ ◆ session default',
    '│ │ │ > Do it.',
    '│ │ │   I call it.',
    '│ │ │ ◆ action greet',
    '│ │ │ │ ◆ session default',
    '│ │ │ │ │ > Greet Ada.',
    '│ │ │ │ │   Hello!',
    '│ │ │ │ ╰ scripted/scripted · 1 turn',
    '│ │ │ ╰ done',
    '│ │ │   Done.',
    '│ │ ╰ scripted/scripted · 2 turns',
    '│ │ ◆ action greet',
    '│ │ │ ◆ session default',
    '│ │ │ │ > Greet Bob.',
    '│ │ │ │   Hello!',
    '│ │ │ ╰ scripted/scripted · 1 turn',
    '│ │ ╰ done',
    '│ │ ✓ step ask',
    '│ │ ✗ step tell',
    '│ │     nobody there',
    '╰ completed',
  ]);
});

test('what a model says can not move the cursor or change the terminal', async () => {
  const terminal = new Terminal(80);
  await show(['\x1b[2J\x1b]0;owned\x07hello\x1b[9999Aworld'], new TerminalScreen(terminal));
  expect(terminal.lines.join('\n')).toContain('helloworld');
  expect(terminal.lines.join('\n')).not.toContain('owned');
});

const base = { v: 1, eventIndex: 0, timestamp: '2026-01-01T00:00:00.000Z', runId: 'run_1', operationId: 'op' } as const;
const shell: RuntimeEvent[] = [
  { ...base, type: 'operation_start', operationKind: 'shell' },
  { ...base, type: 'tool_start', toolName: 'bash', toolCallId: 'c', args: { command: 'seq 1000' } },
];

test('keeps the first and the last lines of a long output, and says how many are between', () => {
  const screen = new Lines();
  const view = new RunView(screen, { workflow: 'w', action: 'a' });
  for (const event of shell) view.add(event);
  const text = Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join('');
  view.add({ ...base, type: 'tool_output', toolCallId: 'c', stream: 'stdout', text });
  view.add({
    ...base,
    type: 'tool',
    toolName: 'bash',
    toolCallId: 'c',
    durationMs: 5,
    isError: false,
    result: { details: { exitCode: 7 } },
  });
  const output = screen.lines.slice(-21).map((line) => line.replace(/^│ │ +/, ''));
  expect(output.slice(0, 2)).toEqual(['1', '2']);
  expect(output).toContain('… 980 lines');
  expect(output.at(-1)).toBe('1000');
  expect(screen.lines.find((line) => line.includes('✗'))).toMatch(/✗ \$ seq 1000 +exit 7 {2}5ms$/);
});

test('names a session again when work goes on in it after another', () => {
  const screen = new Lines();
  const view = new RunView(screen, { workflow: 'w', action: 'a' });
  const log = (session: string, message: string): RuntimeEvent => ({
    ...base,
    session,
    type: 'log',
    level: 'info',
    message,
  });
  for (const event of [log('one', '1'), log('two', '2'), log('two', '3'), log('one', '4')]) view.add(event);
  expect(screen.lines.map((line) => line.replace(/^[│ ]+/, ''))).toEqual([
    '◆ workflow w',
    '◆ action a',
    '◆ session one',
    '· 1',
    '◆ session two',
    '· 2',
    '· 3',
    '◆ session one …',
    '· 4',
  ]);
});
