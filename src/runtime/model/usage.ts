import type { ModelPrices, Usage } from './model.ts';

/** The tokens of one request, without their price. */
export type Tokens = Omit<Usage, 'totalTokens' | 'cost'>;

/** Usage of no request at all: what a sum starts from. */
export function noUsage(): Usage {
  return withCost({ input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0 }, undefined);
}

/** Usage of a request of which nobody said what it was. */
export function unknownUsage(): Usage {
  return { ...noUsage(), cost: null };
}

/** The sum. Its cost is `null` as soon as that of one part is. */
export function addUsage(a: Usage, b: Usage): Usage {
  return {
    input: a.input + b.input,
    output: a.output + b.output,
    reasoning: a.reasoning + b.reasoning,
    cacheRead: a.cacheRead + b.cacheRead,
    cacheWrite: a.cacheWrite + b.cacheWrite,
    totalTokens: a.totalTokens + b.totalTokens,
    cost: a.cost &&
      b.cost && {
        input: a.cost.input + b.cost.input,
        output: a.cost.output + b.cost.output,
        cacheRead: a.cost.cacheRead + b.cost.cacheRead,
        cacheWrite: a.cost.cacheWrite + b.cost.cacheWrite,
        total: a.cost.total + b.cost.total,
      },
  };
}

/** Adds the price to tokens. `reasoning` is a part of `output` and costs nothing on its own. */
export function withCost(tokens: Tokens, prices: ModelPrices | undefined): Usage {
  const totalTokens = tokens.input + tokens.output + tokens.cacheRead + tokens.cacheWrite;
  // Nothing costs nothing, whatever the price; otherwise one unknown price makes the whole unknown.
  const dollars = (count: number, price: number | undefined) =>
    count === 0 ? 0 : price === undefined ? Number.NaN : (count * price) / 1_000_000;
  const input = dollars(tokens.input, prices?.input);
  const output = dollars(tokens.output, prices?.output);
  const cacheRead = dollars(tokens.cacheRead, prices?.cacheRead);
  const cacheWrite = dollars(tokens.cacheWrite, prices?.cacheWrite);
  const total = input + output + cacheRead + cacheWrite;
  return { ...tokens, totalTokens, cost: Number.isNaN(total) ? null : { input, output, cacheRead, cacheWrite, total } };
}
