/** So long each row runs before it is timed: code is compiled and caches are filled, as in a host that has been up a while. */
const warmUpMs = 3_000;

export interface TurnOptions {
  /** Calls of one turn, one after the other, each of which counts. Default: 1 */
  inARow?: number;
  /** Calls that are under way together, of which the mean counts. Default: 1 */
  atOnce?: number;
}

export interface CompareOptions extends TurnOptions {
  /** How often each row has its turn. Default: 50 */
  rounds?: number;
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

/** A row that times its turns itself, as in another process; gives the milliseconds of each call. */
export class Turn {
  readonly take: (options: TurnOptions) => Promise<number[]>;

  constructor(take: (options: TurnOptions) => Promise<number[]>) {
    this.take = take;
  }
}

/** The milliseconds of each call of one turn. */
export async function timeTurn(call: Timed, { inARow = 1, atOnce = 1 }: TurnOptions): Promise<number[]> {
  const times: number[] = [];
  for (let done = 0; done < inARow; done++) {
    const start = performance.now();
    const [own] = await Promise.all(Array.from({ length: atOnce }, call));
    times.push(typeof own === 'number' ? own : (performance.now() - start) / atOnce);
  }
  return times;
}

/**
 * Times the rows in turn, so that drift of the machine meets all alike. Prints percentiles, and how often the first row
 * fits into each of the others.
 */
export async function compare(
  title: string,
  rows: Record<string, Timed | Turn>,
  { rounds = 50, inARow = 1, atOnce = 1, before = async () => {} }: CompareOptions = {},
): Promise<Row[]> {
  const times = new Map(Object.keys(rows).map((name) => [name, [] as number[]]));
  const turn = async (row: Timed | Turn): Promise<number[]> => {
    await before();
    return row instanceof Turn ? row.take({ inARow, atOnce }) : timeTurn(row, { inARow, atOnce });
  };
  for (const row of Object.values(rows)) {
    const end = performance.now() + warmUpMs;
    do await turn(row);
    while (performance.now() < end);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [name, row] of Object.entries(rows)) times.get(name)?.push(...(await turn(row)));
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
