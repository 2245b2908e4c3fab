import type { Logger } from 'pino';
import type { SandboxHost } from '../../sandbox/index.ts';
import { type AgentDefinition, checkFactory, isAgent } from '../define/agent.ts';
import { Problems } from '../define/checks.ts';
import { agentNamePattern } from '../define/names.ts';
import { isWorkflow, type WorkflowDefinition } from '../define/workflow.ts';
import type { ModelSource } from '../model/providers.ts';
import type { SandboxFactory } from '../sandbox/env.ts';
import { pathText } from '../schema/path.ts';

/** Options of `createRuntime`. One that it does not have is refused. */
export interface RuntimeOptions {
  /** Makes the containers of `docker()` sandboxes. Default: one that is opened when it is first needed */
  host?: SandboxHost;
  /**
   * Where runs, conversations and events are kept: the path of a SQLite file, which is made when it is not there, or
   * `:memory:`. Default: `runtime.db` in `BERTH_STATE_DIR`, else in `$XDG_STATE_HOME/berth`, else in
   * `~/.local/state/berth`
   */
  store?: string;
  /**
   * Milliseconds from its end on that a run is kept, with its events, conversations and steps; `Infinity` is for ever. What
   * is older is removed when the store is opened, and once an hour. Default: 30 days
   */
  runRetention?: number;
  /**
   * Goes on with what other processes have left, as soon as its workflow or agent is known: looked for when the store is
   * opened, and every 15 s. `false`: only with what it is told to, by `resume()` of a run; then a run does not keep its
   * sandbox when this process dies. Default: true
   */
  recover?: boolean;
  /** Added to the built-in providers, by provider id. */
  models?: Record<string, ModelSource>;
  /** Default: pino on standard error, at the level of `BERTH_LOG`, else `warn` */
  logger?: Logger;
  /** By the name that they are dispatched to by. */
  agents?: Record<string, AgentDefinition>;
  /** By the name that they are invoked by. */
  workflows?: Record<string, WorkflowDefinition>;
  /**
   * A folder: what the files `agents/<name>` and `workflows/<name>` in it export as default is registered too, under these
   * names. They end in `.ts`, `.mts`, `.js` or `.mjs`; Node itself loads TypeScript from 22.18 on. Relative to the directory
   * of the process
   */
  discover?: string;
  /** Of agents that name none. Default: `docker()` */
  sandbox?: SandboxFactory;
  /**
   * Seen by agent initializers, and where keys of providers are looked for; those named as secrets are masked wherever they
   * are told or kept. Default: a copy of `process.env`
   */
  env?: Readonly<Record<string, string | undefined>>;
  /** Runs and messages to agent instances at once; the others wait in order. Default: 16 */
  concurrency?: number;
  /**
   * Bytes of JSON that an input of a run or an agent instance may have, and what an Action, a tool or a step gives. Default:
   * 16 MiB
   */
  maxValueBytes?: number;
}

/** @throws {DefinitionError} with everything that is wrong with them */
export function checkRuntime(options: RuntimeOptions): void {
  const problems = new Problems('The runtime');
  const record = problems.record(options, '', {
    known: [
      'host',
      'store',
      'runRetention',
      'recover',
      'models',
      'logger',
      'agents',
      'workflows',
      'discover',
      'sandbox',
      'env',
      'concurrency',
      'maxValueBytes',
    ],
  });
  problems.optional(record.concurrency, 'concurrency', (value, path) => problems.positiveInteger(value, path));
  problems.optional(record.maxValueBytes, 'maxValueBytes', (value, path) => problems.positiveInteger(value, path));
  problems.optional(record.runRetention, 'runRetention', (value, path) => {
    if (typeof value !== 'number' || !(value >= 0)) problems.add(path, 'must be milliseconds, 0 or more');
  });
  problems.optional(record.recover, 'recover', (value, path) => problems.boolean(value, path));
  problems.optional(record.store, 'store', (value, path) => checkStore(problems, value, path));
  problems.optional(record.discover, 'discover', (value, path) => problems.text(value, path));
  problems.optional(record.logger, 'logger', (value, path) => {
    const { info, warn, error } = Object(value) as Record<string, unknown>; // any value: its fields are looked at here
    if ([info, warn, error].some((method) => typeof method !== 'function')) problems.add(path, 'must be a pino logger');
  });
  problems.optional(record.host, 'host', (value, path) => {
    if (typeof Object(value).create !== 'function') problems.add(path, 'must be a SandboxHost');
  });
  problems.optional(record.sandbox, 'sandbox', (value, path) => checkFactory(problems, value, path));
  const registered = (field: 'agents' | 'workflows', isDefinition: (value: unknown) => boolean, what: string) => {
    const names = new Map<unknown, string>();
    for (const [name, definition] of problems.entries(record[field], field)) {
      const path = pathText(field, [name]);
      problems.name(name, path, agentNamePattern);
      const other = names.get(definition);
      if (!isDefinition(definition)) problems.add(path, `must be ${what}, not a copy`);
      else if (other !== undefined) problems.add(path, `is ${other} already: it can have one name only`);
      names.set(definition, name);
    }
  };
  registered('agents', isAgent, 'an agent made by defineAgent');
  registered('workflows', isWorkflow, 'a workflow made by defineWorkflow');
  problems.entries(record.models, 'models'); // `Models` looks at each
  problems.optional(record.env, 'env', (value, path) => {
    if (typeof value !== 'object' || value === null) problems.add(path, 'must be an object'); // `process.env` is no plain one
  });
  problems.throwIfAny();
}

function checkStore(problems: Problems, store: unknown, path: string): void {
  if (typeof store !== 'string' || store === '') problems.add(path, 'must be the path of a file, or :memory:');
  else if (/^[a-z][a-z0-9+.-]+:\/\//i.test(store)) problems.add(path, 'must be a file: other databases come later');
}
