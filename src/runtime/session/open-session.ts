import type * as v from 'valibot';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { HarnessClosedError, SessionBusyError } from '../errors.ts';
import type { EventScope } from '../events/event.ts';
import { UsageMeter } from '../events/scope.ts';
import { type CallHandle, callHandle } from '../harness/call-handle.ts';
import type { ShellOptions } from '../harness/harness.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import type { Call, Operation, Place } from '../harness/operation.ts';
import { checkShell, shellAbout, shellDetails } from '../harness/shell.ts';
import type { Usage } from '../model/model.ts';
import type { Steps } from '../run/step.ts';
import type { Files } from '../sandbox/files.ts';
import type { Schema } from '../schema/parse.ts';
import type { SkillReference } from '../skills/skill.ts';
import { checkTask, runTask } from '../subagents/task.ts';
import { checkPrompt, checkText } from './check-prompt.ts';
import { runCompact } from './compact.ts';
import type { Conversation } from './conversation.ts';
import type { HistoryMessage } from './history.ts';
import { type HowToPrompt, runPrompt } from './prompt.ts';
import type { PromptOptions, PromptResult, Session, SkillOptions, TaskOptions } from './session.ts';
import { runShell } from './shell.ts';
import { checkSkill, runSkill } from './skill.ts';
import { recordedPrompt, restoredPrompt } from './structured-result.ts';

/** A session at work: one operation at a time goes through it. */
export class OpenSession implements Session {
  readonly name: string;
  readonly fs: Files;
  readonly harness: OpenHarness;
  readonly conversation: Conversation;
  /** Those of its tasks: they go with it. */
  readonly children = new Set<OpenSession>();
  readonly #place: Place;
  readonly #scope: EventScope;
  readonly #onDelete: () => void;
  #active: CallHandle<unknown> | undefined;
  #activeKind: string | undefined;
  #deleted = false;

  constructor(options: {
    name: string;
    harness: OpenHarness;
    place: Place;
    fs: Files;
    conversation: Conversation;
    /** Of its events, besides what it is itself. */
    scope: EventScope;
    onDelete: () => void;
  }) {
    this.name = options.name;
    this.harness = options.harness;
    this.fs = options.fs;
    this.conversation = options.conversation;
    this.#place = options.place;
    this.#scope = { ...options.scope, session: this.name, conversationId: this.conversationId };
    this.#onDelete = options.onDelete;
  }

  get conversationId(): string {
    return this.conversation.id;
  }

  get usage(): Usage {
    return structuredClone(this.conversation.usage);
  }

  prompt<Result extends Schema>(
    text: string,
    options: PromptOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  prompt(text: string, options?: PromptOptions): CallHandle<PromptResult>;
  prompt(text: string, options: PromptOptions = {}): CallHandle<PromptResult & { data?: unknown }> {
    return this.promptAs({}, text, options);
  }

  /**
   * A prompt as a part of other work than that of the harness: with the scope of a submission, counted for it.
   * @param how - see `runPrompt`
   */
  promptAs(
    part: { scope?: EventScope; meter?: UsageMeter; steps?: Steps },
    text: string,
    options: PromptOptions,
    how: Pick<HowToPrompt, 'signal' | 'spent'> = {},
  ): CallHandle<PromptResult & { data?: unknown }> {
    return this.operation<PromptResult & { data?: unknown }>({
      kind: 'prompt',
      about: [text],
      place: { ...this.#place, ...part, scope: { ...this.#place.scope, ...part.scope } },
      options,
      check: () => {
        checkPrompt(text, options);
        checkText(text, options.images);
      },
      work: (operation) => runPrompt(this, text, options, operation, how),
      recorded: recordedPrompt,
      restored: (recorded) => restoredPrompt(recorded, options.result),
    });
  }

  skill<Result extends Schema>(
    skill: string | SkillReference,
    options: SkillOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  skill(skill: string | SkillReference, options?: SkillOptions): CallHandle<PromptResult>;
  skill(skill: string | SkillReference, options: SkillOptions = {}): CallHandle<PromptResult & { data?: unknown }> {
    return this.operation({
      kind: 'skill',
      about: [typeof skill === 'string' ? skill : skill?.directory, options?.args],
      options,
      check: () => checkSkill(skill, options),
      work: (operation) => runSkill(this, skill, options, operation),
      recorded: recordedPrompt,
      restored: (recorded) => restoredPrompt(recorded, options.result),
    });
  }

  task<Result extends Schema>(
    text: string,
    options: TaskOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  task(text: string, options?: TaskOptions): CallHandle<PromptResult>;
  task(text: string, options: TaskOptions = {}): CallHandle<PromptResult & { data?: unknown }> {
    return this.operation({
      kind: 'task',
      about: [text, options?.agent, options?.cwd],
      options,
      check: () => checkTask(this.#place, text, options),
      work: (operation) => runTask(this, text, options, operation),
      recorded: recordedPrompt,
      restored: (recorded) => restoredPrompt(recorded, options.result),
    });
  }

  shell(command: string, options: ShellOptions = {}): CallHandle<ExecResult> {
    return this.operation({
      kind: 'shell',
      about: shellAbout(command, options),
      options,
      check: () => checkShell(command, options),
      work: (operation) => runShell(this, command, options, operation),
      shown: shellDetails,
      isWhole: true,
    });
  }

  compact(): CallHandle<void> {
    return this.operation({
      kind: 'compact',
      about: [],
      options: {},
      check: () => {},
      work: (operation) => runCompact(this, operation),
      isWhole: true,
    });
  }

  history(): Promise<HistoryMessage[]> {
    return this.conversation.history();
  }

  async delete(): Promise<void> {
    this.#deleted = true;
    this.#active?.abort('The session was deleted.');
    await this.#active?.catch(() => {}); // who waits for it gets the error
    await Promise.all([...this.children].map((child) => child.delete()));
    await this.conversation.remove();
    this.#onDelete();
  }

  /** The one place that every operation of the session goes through. */
  operation<Result>(call: Call<Result>): CallHandle<Result> {
    const refusal = this.#deleted
      ? new HarnessClosedError()
      : this.#activeKind && new SessionBusyError({ session: this.name, activeOperation: this.#activeKind });
    if (refusal) return callHandle([], () => Promise.reject(refusal));
    this.#activeKind = call.kind; // before it starts: whoever sees its first event finds the session at work
    const { place = this.#place } = call;
    const meter = new UsageMeter(place.meter, this.conversation);
    const work = (operation: Operation) => {
      this.conversation.operationId = operation.step.id('op');
      return call.work(operation);
    };
    const handle = this.harness.operation({ ...call, work, place: { ...place, meter }, scope: this.#scope });
    this.#active = handle;
    const free = () => {
      this.#active = undefined;
      this.#activeKind = undefined;
    };
    handle.then(free, free);
    return handle;
  }
}
