import { join } from 'node:path';
import { setTimeout as pass } from 'node:timers/promises';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { BerthError } from '../../src/errors.ts';
import { socketName } from '../../src/protocol/socket.ts';
import type { SandboxHost } from '../../src/sandbox/host.ts';
import type { OpenedHost } from '../support/sandbox-fixture.ts';
import { calls } from './calls.ts';
import { type LieSpec, lieSpecs, teller } from './lies.ts';
import { LyingAgent } from './lying-agent.ts';

export interface FuzzOptions {
  seed: number;
  runs: number;
  /** So long there are that many more, each time from the next seed. */
  ms?: number | undefined;
  /** Of a case that failed: it is printed with the seed. */
  path?: string | undefined;
}

/** fast-check's own limit of time would leave what is under way then to itself. */
export async function assertFor<Input>(
  property: fc.IAsyncProperty<Input>,
  { seed, runs, ms = 0, path }: FuzzOptions,
): Promise<void> {
  const since = performance.now();
  let next = seed;
  do await fc.assert(property, { seed: next++, numRuns: runs, ...(path !== undefined && { path }) });
  while (performance.now() - since < ms);
}

/** After this, a conversation is over. */
const quietMs = 40;
/** How long a host that has nothing to wait for any more may take to say so. */
const settleMs = 30_000;

/**
 * Makes a sandbox whose sandbox-agent lies to every call of the host, in every way, and throws with the shortest
 * conversation that it can find in which the host does something else than succeed or reject with an error of ours.
 */
export async function fuzz({ host, stateDir }: OpenedHost, options: FuzzOptions): Promise<void> {
  const made = await host.create();
  const { id } = made;
  await made.close();
  // The container goes on; of its own sandbox-agent nobody hears again.
  await using agent = await LyingAgent.listen(join(stateDir, 'wire', id, socketName));
  const stray: unknown[] = [];
  const onStray = (error: unknown) => void stray.push(error);
  process.on('unhandledRejection', onStray).on('uncaughtException', onStray);
  try {
    const conversation = fc.record({ call: fc.constantFrom(...Object.keys(calls)), lies: lieSpecs });
    await assertFor(
      fc.asyncProperty(conversation, async ({ call, lies }) => {
        const outcome = await converse(host, id, agent, call, lies);
        await pass(0); // what nobody caught comes in a later turn
        if (stray.length > 0) throw new Error(`nobody caught ${inspect(stray.splice(0))}`);
        if (outcome !== undefined && !(outcome instanceof BerthError)) {
          throw new Error(`${call} gave ${inspect(outcome)}`);
        }
        if (outcome !== undefined && lies.every(isHonest))
          throw new Error(`an honest sandbox-agent: ${inspect(outcome)}`);
      }),
      options,
    );
  } finally {
    process.off('unhandledRejection', onStray).off('uncaughtException', onStray);
  }
}

/** A transport may break: nothing is lost by that. */
function isHonest(lie: LieSpec): boolean {
  return lie.kind === 'break' && lie.answer === 'resumed' && lie.shift === 0 && lie.times === 0 && lie.at > 1;
}

/** @returns what the call rejected with */
async function converse(
  host: SandboxHost,
  id: string,
  agent: LyingAgent,
  call: string,
  lies: readonly LieSpec[],
): Promise<unknown> {
  agent.startAnew(teller(lies));
  const sandbox = await host.find(id);
  let settled = false;
  const outcome = Promise.resolve(calls[call]?.(sandbox))
    .then(
      () => undefined,
      (error: unknown) => error,
    )
    .finally(() => {
      settled = true;
    });
  if (!lies.every(isHonest)) {
    // A sandbox-agent may keep a host waiting, for as long as that wants.
    await Promise.race([outcome, agent.quiet(quietMs)]);
    if (!settled) await sandbox.close();
  }
  const late = pass(settleMs, new Error('the call goes on after the connection was closed'), { ref: false });
  const result = await Promise.race([outcome, late]);
  await sandbox.close();
  return result;
}
