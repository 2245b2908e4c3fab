import type { Wire } from '../wire.ts';

/** A watch that nobody ends is over after this. */
const waitMs = 10_000;

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
  const over = ended.then(() => undefined);
  for (let isOver = false; !isOver; ) {
    const kills = await Promise.race([oomKills(wire, told, waitMs), over]);
    isOver = kills === undefined;
    tell(kills ?? (await oomKills(wire, told)));
  }
}
