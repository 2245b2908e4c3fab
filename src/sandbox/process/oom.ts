import { setTimeout as wait } from 'node:timers/promises';
import type { Wire } from '../wire.ts';
import { unlessEnded } from './unless-ended.ts';

/** A watch that is not ended is over after this. */
const waitMs = 10_000;
/** A sandbox-agent that answers at once, again and again, must not keep the host busy. */
const pauseMs = 100;

/** How many processes of the sandbox the kernel has killed for want of memory since its start. */
export async function oomKills(wire: Wire, after = 0, forMs = 1, signal?: AbortSignal): Promise<number> {
  return (await wire.call({ type: 'memory.watch', after, waitMs: forMs }, 'memory.kills', signal)).kills;
}

/** Tells of each further kill until `ended`; resolves when all until then are told. */
export async function watchOomKills(
  wire: Wire,
  before: number,
  ended: Promise<unknown>,
  onKill: (count: number) => void,
): Promise<void> {
  let told = before;
  const tell = (kills: number) => {
    if (kills > told) onKill(kills - told);
    told = Math.max(told, kills);
  };
  const unlessOver = unlessEnded(ended);
  const over = new AbortController(); // what still waits in the sandbox would be one of those that a connection carries
  const end = () => over.abort();
  ended.then(end, end);
  for (;;) {
    const kills = await unlessOver(() => oomKills(wire, told, waitMs, over.signal));
    if (kills === undefined) break;
    tell(kills);
    await unlessOver(() => wait(pauseMs));
  }
  await ended;
  tell(await oomKills(wire, told));
}
