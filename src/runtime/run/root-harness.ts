import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { SandboxHost } from '../../sandbox/index.ts';
import { type AgentDefinition, resolveAgent } from '../define/agent.ts';
import type { Log } from '../events/log.ts';
import { Forks, type Transaction } from '../harness/forks.ts';
import { type HarnessParts, OpenHarness } from '../harness/open-harness.ts';
import { opened } from '../harness/opened.ts';
import { addMcpSecrets } from '../mcp/options.ts';
import type { Model } from '../model/model.ts';
import type { Models } from '../model/providers.ts';
import type { SandboxEnv, SandboxFactory } from '../sandbox/env.ts';
import { keptConversations } from '../session/conversation.ts';
import { withSubagents } from '../subagents/subagent.ts';
import { SandboxTools } from '../tools/tool-environment.ts';
import type { OpenRootHarness } from './run.ts';
import { Steps } from './step.ts';

/** What a runtime's harnesses have in common. */
interface Shared {
  env: Readonly<Record<string, string | undefined>>;
  models: Models;
  /** Of agents that name none. */
  sandbox: SandboxFactory;
  /** Left out: one is opened when it is first needed. */
  host: SandboxHost | undefined;
  logger: Logger;
  log: Log;
  maxValueBytes: number;
  /** Later processes have the store too. */
  isDurable: boolean;
  /** Interrupted work is taken up. */
  recover: boolean;
}

/** Opens the root harnesses of runs and agent instances: the agent first, then its sandbox. */
export class RootHarnesses {
  readonly #options: Shared;
  /** That were written to the log. */
  readonly #warnings = new Set<string>();
  #ownHost: Promise<SandboxHost> | undefined;

  constructor(options: Shared) {
    this.#options = options;
  }

  /** @param model - in place of the one that the agent has */
  of(agent: AgentDefinition, model?: string | Model): OpenRootHarness {
    const open: OpenRootHarness = async ({ journal, meter, rest, mailbox, resume, isTransaction = false, signal }) => {
      const { owner, store } = journal;
      const id = 'run' in owner ? owner.run : owner.instance;
      const own = await resolveAgent(agent, { id, env: this.#options.env });
      const resolved = model === undefined ? own : { ...own, model };
      const factory = resolved.sandbox ?? this.#options.sandbox;
      for (const each of withSubagents(resolved)) {
        if (each.model !== undefined) this.#options.models.resolve(each.model);
        for (const server of Object.values(each.mcpServers)) addMcpSecrets(journal.masker, server);
        OpenHarness.checkTools(each, factory);
      }
      journal.masker.add(...(factory.secrets ?? []));
      // By their text: an agent may make a factory for each of its runs.
      if (factory.warning !== undefined && !this.#warnings.has(factory.warning)) {
        this.#warnings.add(factory.warning);
        this.#options.log.warn(factory.warning);
      }
      const scope = { harness: 'default' };
      const env = await factory.createSandbox({
        id,
        ...('run' in owner ? { kind: 'run' } : { kind: 'agent', agent: owner.agent }),
        key: createHash('sha256')
          .update(JSON.stringify([store.id, owner]))
          .digest('hex'),
        isDurable: this.#options.isDurable && ('agent' in owner || this.#options.recover),
        resume,
        signal,
        host: () => this.#host(),
        onEvent: (event) => journal.emit({ type: 'sandbox', ...event }, scope),
      });
      const steps = new Steps(journal);
      const forks = new Forks(rest);
      let inside: SandboxEnv | undefined;
      let transaction: Transaction | undefined;
      try {
        // Another directory is an environment in the sandbox, which is ended after it.
        if (resolved.cwd !== undefined) inside = await env.open({ name: 'default', cwd: resolved.cwd });
        if (isTransaction) transaction = await forks.transaction(inside ?? env, { steps, name: 'default', signal });
      } catch (error) {
        await inside?.close('failed').catch(() => {}); // the first error is the one to report
        await env.close('failed').catch(() => {});
        throw error;
      }
      const used = transaction?.fork ?? inside ?? env;
      const parts: HarnessParts = {
        name: 'default',
        env: used,
        agent: resolved,
        models: this.#options.models,
        shared: new SandboxTools(),
        sandboxTools: factory.tools?.bind(factory),
        emit: journal.emit,
        journal,
        conversations: await keptConversations(journal),
        scope,
        meter,
        steps,
        rest,
        mailbox,
        forks,
        transaction,
        depth: 0,
        maxValueBytes: this.#options.maxValueBytes,
        signal,
        ...(used !== env && {
          release: async (outcome) => {
            if (inside && inside !== used) await inside.close(outcome);
            await env.close(outcome);
          },
        }),
      };
      return new OpenHarness(parts);
    };
    return async (root) => {
      const opening = open(root);
      try {
        return await opened(opening, root.signal, root.journal.emit);
      } catch (error) {
        opening.then((late) => late.close('cancelled')).catch(() => {}); // the first error is the one to report
        throw error;
      }
    };
  }

  async #host(): Promise<SandboxHost> {
    if (this.#options.host) return this.#options.host;
    this.#ownHost ??= SandboxHost.open({ logger: this.#options.logger });
    try {
      return await this.#ownHost;
    } catch (error) {
      this.#ownHost = undefined; // the engine may answer the next time
      throw error;
    }
  }

  /** Closes the host that was opened here. */
  async close(): Promise<void> {
    await (await this.#ownHost?.catch(() => undefined))?.close();
  }
}
