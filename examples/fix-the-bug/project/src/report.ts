import type { Booking } from './ledger.ts';
import { type Cents, formatAmount } from './money.ts';

/** What each category took in, refunds subtracted. */
export function totals(bookings: readonly Booking[]): Map<string, Cents> {
  const sums = new Map<string, Cents>();
  for (const { category, amount } of bookings) sums.set(category, (sums.get(category) ?? 0) + amount);
  return sums;
}

/** A line for each category, the largest total first, then one for all of them. */
export function report(bookings: readonly Booking[]): string {
  const sums = [...totals(bookings)].sort(([, a], [, b]) => b - a);
  const all = sums.reduce((sum, [, amount]) => sum + amount, 0);
  const lines = [...sums, ['total', all] as const].map(
    ([name, amount]) => `${name.padEnd(12)}${formatAmount(amount).padStart(12)}`,
  );
  return `${lines.join('\n')}\n`;
}
