import {
  asksModel,
  type EventOf,
  type OperationKind,
  type RecordedError,
  type RuntimeEvent,
} from '../../runtime/events/event.ts';
import { diffLine } from './diff.ts';
import { duration } from './duration.ts';
import { harmlessLine, harmlessLines } from './harmless.ts';
import { OutputLines } from './output-lines.ts';
import { row, type Span } from './row.ts';
import type { Screen } from './screen.ts';
import type { Style } from './style.ts';
import { argumentSpans, compact } from './value.ts';
import { wrap } from './width.ts';

const spinner = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const frameMs = 80;
/** Lines kept of one command's output, of one diff, of one text of the model. */
const outputRows = { first: 14, newest: 6 };
const diffRows = 40;
const textRows = 12;

/** A workflow, an action or a session: what other lines stand below. */
interface Group {
  label: Span[];
  right?: Span[];
  parent?: Group;
  depth: number;
  printed: boolean;
}

/** A tool call that has not ended. */
interface Call {
  group: Group;
  title: Span[];
  startedAt: number;
  output: OutputLines;
  /** The call runs an action, which has lines of its own. */
  isAction: boolean;
}

/** A model request that has not ended, and what came of its answer. */
interface Answer {
  group: Group;
  startedAt: number;
  text: string;
  thinking: string;
}

/**
 * The tree of a run while it happens. Lines that are final are printed once, in the order in which things end; what is
 * still running stands below them and is drawn again. Where work goes on in another session, its line is repeated.
 */
export class RunView {
  readonly #screen: Screen;
  readonly #style: Style;
  readonly #startedAt = performance.now();
  readonly #groups = new Map<string, Group>();
  readonly #calls = new Map<string, Call>();
  readonly #answers = new Map<string, Answer>();
  readonly #operations = new Map<string, { kind: OperationKind; group: Group; turns: number; model: string }>();
  readonly #root: Group;
  /** Where what belongs to no child action and no session stands. */
  readonly #base: Group;
  #open: Group;
  #status = 'Ctrl-C stops the run';
  #timer: NodeJS.Timeout | undefined;
  #frame = 0;

  /** @param names.action - that of the workflow's action, which no event tells */
  constructor(screen: Screen, names: { workflow: string; action: string }) {
    this.#screen = screen;
    this.#style = screen.style;
    const { bold } = this.#style;
    this.#root = { label: [['workflow '], [harmlessLine(names.workflow), bold]], depth: 0, printed: false };
    this.#base = this.#group(this.#root, [['action '], [harmlessLine(names.action), bold]]);
    this.#open = this.#root;
    if (screen.liveRows > 0) this.#timer = setInterval(() => this.#draw(), frameMs);
  }

  /** What the last line says until the end. */
  set status(text: string) {
    this.#status = text;
    this.#draw();
  }

  add(event: RuntimeEvent): void {
    switch (event.type) {
      case 'run_start':
        // Printed with the first thing below it: a run that could not begin is told by its error alone.
        this.#root.right = [[event.runId ?? '', this.#style.dim]];
        break;
      case 'operation_start':
        this.#startOperation(event);
        break;
      case 'operation':
        this.#endOperation(event);
        break;
      case 'turn_start':
        this.#answers.set(event.turnId ?? '', {
          group: this.#groupOf(event),
          startedAt: performance.now(),
          text: '',
          thinking: '',
        });
        break;
      case 'text_delta':
      case 'thinking_delta':
        this.#hear(event);
        break;
      case 'turn':
        this.#endTurn(event);
        break;
      case 'message_end':
        this.#message(event);
        break;
      case 'tool_start':
        this.#startCall(event);
        break;
      case 'tool_output':
        this.#calls.get(event.toolCallId)?.output.push(event.stream, event.text);
        break;
      case 'tool':
        this.#endCall(event);
        break;
      case 'action_start':
        this.#startAction(event);
        break;
      case 'action':
        this.#leave(this.#groups.get(`${event.actionId}`) ?? this.#base, this.#ending(event), event);
        break;
      case 'compaction': {
        if (event.isError) break; // the log says so
        const text = `a summary took the place of the older messages (${event.messagesBefore} → ${event.messagesAfter})`;
        this.#print(this.#groupOf(event), [[`↧ ${text}`, this.#style.dim]]);
        break;
      }
      case 'retry': {
        const text = `${harmlessLine(event.error.message)}; asking again in ${duration(event.delayMs)}`;
        this.#print(this.#groupOf(event), [[`↻ ${text}`, this.#style.yellow]]);
        break;
      }
      case 'log':
        this.#log(event);
        break;
      case 'data':
        this.#print(this.#groupOf(event), [
          ['· '],
          [harmlessLine(event.name)],
          [` ${compact(event.data)}`, this.#style.dim],
        ]);
        break;
      case 'run_end':
        if (event.isError && !this.#root.printed) break;
        this.#leave(this.#root, [[event.state, event.isError ? this.#style.red : this.#style.green]], event);
        break;
    }
  }

  /** Leaves only final lines on the screen. */
  close(): void {
    clearInterval(this.#timer);
    this.#screen.close();
  }

  #startAction(event: EventOf<'action_start'>): void {
    const call = event.toolCallId === undefined ? undefined : this.#calls.get(event.toolCallId);
    if (call) call.isAction = true;
    const parent = call?.group ?? this.#operations.get(event.operationId ?? '')?.group ?? this.#base;
    const name = event.attempt === undefined ? event.action : `${event.action} ${event.attempt}`;
    const group = this.#group(parent, [['action '], [harmlessLine(name), this.#style.bold]]);
    this.#groups.set(`${event.actionId}`, group);
    this.#enter(group);
  }

  #startCall(event: EventOf<'tool_start'>): void {
    const { bold, cyan } = this.#style;
    const group = this.#groupOf(event);
    const ofCode = this.#operations.get(event.operationId ?? '')?.kind === 'shell';
    const name: Span = ofCode ? ['$ ', bold] : [`${harmlessLine(event.toolName).padEnd(5)} `, cyan];
    const title = [name, ...argumentSpans(event.toolName, event.args)];
    this.#calls.set(event.toolCallId, {
      group,
      title,
      startedAt: performance.now(),
      output: new OutputLines(outputRows),
      isAction: false,
    });
    // Where nothing is drawn again, a long command would otherwise say nothing until its end.
    if (this.#screen.liveRows === 0 && event.toolName === 'bash') this.#print(group, [['… '], ...title]);
  }

  #endCall(event: EventOf<'tool'>): void {
    const call = this.#calls.get(event.toolCallId);
    this.#calls.delete(event.toolCallId);
    if (!call || call.isAction) return;
    const { red, green, dim } = this.#style;
    const exit = exitText(event.result);
    const failed = event.isError || exit !== undefined;
    const right: Span[] = [[duration(event.durationMs), dim]];
    if (exit !== undefined) right.unshift([`${exit}  `, red]);
    this.#print(call.group, [failed ? ['✗ ', red] : ['✓ ', green], ...call.title], right);
    if (event.isError) this.#detail(call.group, errorLines(event), red);
    else this.#result(call, event);
  }

  #result(call: Call, event: EventOf<'tool'>): void {
    const { dim } = this.#style;
    const diff = detailsOf(event.result).diff;
    if (typeof diff === 'string') {
      const lines = harmlessLines(diff).filter((line) => !/^(?:---|\+\+\+) /.test(line));
      for (const line of lines.slice(0, diffRows)) this.#print(call.group, [['    '], diffLine(line, this.#style)]);
      if (lines.length > diffRows) this.#detail(call.group, [`… ${lines.length - diffRows} more lines`], dim);
      return;
    }
    const { head, missing, tail } = call.output.all();
    const between = missing === 0 ? [] : [missing === 1 ? '… 1 line' : `… ${missing} lines`];
    this.#detail(call.group, [...head, ...between, ...tail], dim);
  }

  #startOperation({ operationId = '', ...event }: EventOf<'operation_start'>): void {
    const group = this.#groupOf({ ...event, operationId });
    this.#operations.set(operationId, { kind: event.operationKind, group, turns: 0, model: '' });
    if (asksModel(event)) this.#enter(group);
  }

  #endOperation(event: EventOf<'operation'>): void {
    const operation = this.#operations.get(event.operationId ?? '');
    if (operation === undefined) return;
    this.#operations.delete(event.operationId ?? '');
    if (event.operationKind === 'step') this.#step(operation.group, event);
    if (!asksModel(event)) return;
    const turns = operation.turns === 1 ? '1 turn' : `${operation.turns} turns`;
    const tokens = event.usage?.totalTokens ?? 0;
    const parts = [operation.model, turns, tokens > 0 ? `${tokens.toLocaleString('en')} tokens` : ''];
    const said: Span = [parts.filter((part) => part !== '').join(' · '), this.#style.dim];
    this.#leave(operation.group, event.isError ? this.#ending(event) : [said], event);
  }

  #step(group: Group, event: EventOf<'operation'>): void {
    const { red, green, dim } = this.#style;
    const mark: Span = event.isError ? ['✗ ', red] : ['✓ ', green];
    this.#print(group, [mark, ['step '], [harmlessLine(event.name ?? '')]], [[duration(event.durationMs), dim]]);
    if (event.isError) this.#detail(group, errorLines(event), red);
  }

  #hear(event: EventOf<'text_delta' | 'thinking_delta'>): void {
    const answer = this.#answers.get(event.turnId ?? '');
    if (!answer) return;
    // Only the end is shown while it comes.
    if (event.type === 'text_delta') answer.text = (answer.text + event.text).slice(-4_000);
    else answer.thinking = (answer.thinking + event.delta).slice(-4_000);
  }

  #endTurn(event: EventOf<'turn'>): void {
    this.#answers.delete(event.turnId ?? '');
    const operation = this.#operations.get(event.operationId ?? '');
    if (!operation || event.purpose !== 'agent') return;
    operation.turns++;
    operation.model = harmlessLine(`${event.request.providerId}/${event.request.requestedModel}`);
  }

  #message({ message, ...event }: EventOf<'message_end'>): void {
    const text = message.content
      .flatMap((part) => (part.type === 'text' ? [part.text] : []))
      .join('\n')
      .trim();
    if (text === '') return;
    const group = this.#groupOf({ ...event, message });
    const isUser = message.role === 'user';
    const rows = isUser ? 3 : textRows;
    const lines = this.#wrapped(group, text);
    const paint = isUser ? this.#style.dim : undefined;
    for (const [i, line] of lines.slice(0, rows).entries()) {
      const last = i === rows - 1 && lines.length > rows;
      this.#print(group, [
        [isUser && i === 0 ? '> ' : '  ', paint],
        [last ? `${line} …` : line, paint],
      ]);
    }
  }

  #log(event: EventOf<'log'>): void {
    const { yellow, red, dim } = this.#style;
    const paint = { info: undefined, warn: yellow, error: red }[event.level];
    const { action: _, toolCallId: __, ...attributes } = event.attributes ?? {};
    const more: Span[] = Object.keys(attributes).length > 0 ? [[` ${compact(attributes)}`, dim]] : [];
    const group = this.#groupOf(event);
    for (const [i, line] of this.#wrapped(group, event.message).entries()) {
      this.#print(group, [[i === 0 ? '· ' : '  ', paint], [line, paint], ...(i === 0 ? more : [])]);
    }
  }

  /** The lines of a text, broken where they would not fit into the group. */
  #wrapped(group: Group, text: string): string[] {
    const { columns } = this.#screen;
    const lines = harmlessLines(text);
    return columns === undefined ? lines : lines.flatMap((line) => wrap(line, columns - 2 * (group.depth + 1) - 2));
  }

  /** The group that an event's line stands in. */
  #groupOf(event: RuntimeEvent): Group {
    const { actionId, session } = event;
    const base = (actionId === undefined ? undefined : this.#groups.get(actionId)) ?? this.#base;
    if (session === undefined) return base;
    const key = JSON.stringify([actionId, session]);
    const known = this.#groups.get(key);
    if (known) return known;
    const made = this.#group(base, [['session '], [harmlessLine(session), this.#style.bold]]);
    this.#groups.set(key, made);
    return made;
  }

  #group(parent: Group, label: Span[]): Group {
    return { label, parent, depth: parent.depth + 1, printed: false };
  }

  /** Prints the lines of the groups that lead to this one, as far as they do not stand right above. */
  #enter(group: Group): void {
    if (isWithin(this.#open, group) && group.printed) {
      this.#open = group;
      return;
    }
    if (group.parent) this.#enter(group.parent);
    const again: Span[] = group.printed ? [[' …', this.#style.dim]] : [];
    group.printed = true;
    this.#open = group;
    this.#line(group.depth, [['◆ ', this.#style.magenta], ...group.label, ...again], group.right);
  }

  #print(group: Group, spans: Span[], right: Span[] = []): void {
    this.#enter(group);
    this.#line(group.depth + 1, spans, right);
  }

  #detail(group: Group, lines: readonly string[], paint: Span[1]): void {
    for (const line of lines) this.#print(group, [['    '], [line, paint]]);
  }

  /** The last line of a group. What comes later in it starts it anew. */
  #leave(group: Group, spans: Span[], event: { durationMs: number }): void {
    this.#enter(group);
    this.#line(group.depth, [['╰ ', this.#style.magenta], ...spans], [[duration(event.durationMs), this.#style.dim]]);
    group.printed = false;
    if (group.parent) this.#open = group.parent;
  }

  #ending(event: { isError: boolean; error?: RecordedError }): Span[] {
    if (!event.isError) return [['done', this.#style.dim]];
    if (event.error?.name === 'AbortError') return [['stopped', this.#style.yellow]];
    return [[harmlessLine(event.error?.message ?? 'failed'), this.#style.red]];
  }

  #line(depth: number, spans: Span[], right: Span[] = []): void {
    this.#screen.print([row([this.#guides(depth), ...spans], right, this.#screen.columns)]);
  }

  #guides(depth: number): Span {
    return ['│ '.repeat(depth), this.#style.dim];
  }

  #draw(): void {
    if (this.#screen.liveRows === 0) return;
    const sign = spinner[this.#frame++ % spinner.length] ?? '';
    const now = performance.now();
    const { dim, cyan } = this.#style;
    const { columns } = this.#screen;
    const calls = [...this.#calls.values()].filter(({ isAction }) => !isAction);
    const answers = [...this.#answers.values()].filter(({ group }) => !calls.some((call) => call.group === group));
    // Every running thing gets its share of the rows, so that none pushes another out.
    const share = Math.floor((this.#screen.liveRows - 1) / Math.max(1, calls.length + answers.length)) - 1;
    const lines: string[] = [];
    const line = (group: Group, spans: Span[], right: Span[] = []) => {
      lines.push(row([this.#guides(group.depth + 1), ...spans], right, columns));
    };
    for (const { group, title, startedAt, output } of calls) {
      line(group, [[`${sign} `, cyan], ...title], [[duration(now - startedAt), dim]]);
      const newest = output.newest();
      for (const text of newest.slice(Math.max(0, newest.length - share))) line(group, [['    '], [text, dim]]);
    }
    for (const { group, startedAt, text, thinking } of answers) {
      const said = text.trim() === '' ? thinking : text;
      const what = text.trim() !== '' ? 'answers' : thinking === '' ? 'waits for the model' : 'thinks';
      line(
        group,
        [
          [`${sign} `, cyan],
          [what, dim],
        ],
        [[duration(now - startedAt), dim]],
      );
      const rows = harmlessLines(said.trim()).flatMap((part) =>
        wrap(part, (columns ?? 80) - 2 * (group.depth + 1) - 4),
      );
      for (const part of rows.slice(Math.max(0, rows.length - Math.min(share, 6)))) {
        if (said !== '') line(group, [['  '], [part, dim]]);
      }
    }
    lines.push(row([[`${sign} `, cyan], [duration(now - this.#startedAt)], [`  ${this.#status}`, dim]], [], columns));
    this.#screen.live(lines);
  }
}

function isWithin(inner: Group, outer: Group): boolean {
  for (let group: Group | undefined = inner; group; group = group.parent) if (group === outer) return true;
  return false;
}

/** What a tool gave besides its text. */
function detailsOf(result: unknown): Record<string, unknown> {
  const details = (result as { details?: unknown } | null | undefined)?.details; // any value: only looked at
  return typeof details === 'object' && details !== null ? { ...details } : {};
}

/** How a command failed, if it did. */
function exitText(result: unknown): string | undefined {
  const { exitCode, signal, timedOut } = detailsOf(result);
  if (timedOut === true) return 'timed out';
  if (typeof signal === 'string') return harmlessLine(signal);
  return typeof exitCode === 'number' && exitCode !== 0 ? `exit ${exitCode}` : undefined;
}

function errorLines(event: EventOf<'tool' | 'operation'>): string[] {
  const content = (event.result as { content?: unknown } | undefined)?.content; // any value: only looked at
  const texts = Array.isArray(content) ? content.map((part: { text?: unknown }) => part?.text) : [];
  const text = event.error?.message ?? texts.filter((part) => typeof part === 'string').join('\n');
  return harmlessLines(text).slice(0, 6);
}
