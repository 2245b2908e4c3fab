/** So long each row runs before it is timed: code is compiled and caches are filled, as in a host that has been up a while. */
const warmUpMs = 3_000;

export interface CompareOptions {
  /** How often each row has its turn. Default: 50 */
  rounds?: number;
  /** Calls of one turn, one after the other, each of which counts. Default: 1 */
  inARow?: number;
  /** Calls that are under way together, of which the mean counts. Default: 1 */
  atOnce?: number;
  /** Is done before each turn of a row, and not timed. */
  before?: () => Promise<unknown>;
}

export interface Row {
  name: string;
  /** Milliseconds a call: 50 % of the rounds were at most this; and so on. */
  p50: number;
  p90: number;
  p99: number;
}

/** What is timed: the whole call, or the milliseconds that it gives. */
export type Timed = () => Promise<number | unknown>;

/**
 * Times the rows in turn, so that drift of the machine meets all alike. Prints percentiles, and how often the first row
 * fits into each of the others.
 */
export async function compare(
  title: string,
  rows: Record<string, Timed>,
  { rounds = 50, inARow = 1, atOnce = 1, before = async () => {} }: CompareOptions = {},
): Promise<Row[]> {
  const times = new Map(Object.keys(rows).map((name) => [name, [] as number[]]));
  const turn = async (call: Timed, took: (ms: number) => void) => {
    await before();
    for (let done = 0; done < inARow; done++) {
      const start = performance.now();
      const [own] = await Promise.all(Array.from({ length: atOnce }, call));
      took(typeof own === 'number' ? own : (performance.now() - start) / atOnce);
    }
  };
  for (const call of Object.values(rows)) {
    const end = performance.now() + warmUpMs;
    do await turn(call, () => {});
    while (performance.now() < end);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [name, call] of Object.entries(rows)) await turn(call, (ms) => times.get(name)?.push(ms));
  }
  const results = Array.from(times, ([name, all]): Row => {
    const sorted = all.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
    return { name, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
  });
  print(title, results, { rounds, inARow, atOnce });
  return results;
}

function print(title: string, rows: Row[], { rounds, inARow, atOnce }: Required<Omit<CompareOptions, 'before'>>): void {
  const width = Math.max(...rows.map(({ name }) => name.length));
  const first = rows[0]?.p50 ?? Number.NaN;
  console.log(`\n${title} (${rounds} rounds of ${inARow * atOnce} calls, ms a call)`);
  console.log(`  ${''.padEnd(width)}       p50       p90       p99   × first`);
  for (const { name, p50, p90, p99 } of rows) {
    const figures = [p50, p90, p99].map((value) => value.toFixed(2).padStart(9));
    console.log(`  ${name.padEnd(width)} ${figures.join(' ')} ${(p50 / first).toFixed(2).padStart(9)}`);
  }
}
