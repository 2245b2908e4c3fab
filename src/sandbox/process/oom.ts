import { setTimeout as wait } from 'node:timers/promises';
import type { Wire } from '../wire.ts';

/** A watch that nobody ends is over after this. */
const waitMs = 10_000;
/** A sandbox-agent that answers at once, again and again, must not keep the host busy. */
const pauseMs = 100;

/** How many processes of the sandbox the kernel has killed for want of memory since its start. */
export async function oomKills(wire: Wire, after = 0, forMs = 1): Promise<number> {
  return (await wire.call({ type: 'memory.watch', after, waitMs: forMs }, 'memory.kills')).kills;
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
  // Not `Promise.race`: a promise that stays open keeps something of each race that it was in.
  let isOver = false;
  let stop = () => {};
  const end = () => {
    isOver = true;
    stop();
  };
  ended.then(end, end);
  const unlessOver = <Result>(work: () => Promise<Result>): Promise<Result | undefined> =>
    new Promise((resolve, reject) => {
      stop = () => resolve(undefined);
      if (isOver) stop();
      else work().then(resolve, reject);
    });
  while (!isOver) {
    tell((await unlessOver(() => oomKills(wire, told, waitMs))) ?? told);
    await unlessOver(() => wait(pauseMs));
  }
  await ended;
  tell(await oomKills(wire, told));
}
