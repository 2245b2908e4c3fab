import { parseCsv } from './csv.ts';
import { type Cents, parseAmount } from './money.ts';

export interface Booking {
  date: string;
  category: string;
  text: string;
  amount: Cents;
}

/** The bookings of a ledger file. Its first line names the columns, in any order. */
export function readLedger(csv: string): Booking[] {
  const [header = [], ...records] = parseCsv(csv);
  const column = (name: string) => {
    const index = header.indexOf(name);
    if (index === -1) throw new SyntaxError(`The ledger has no column ${name}.`);
    return index;
  };
  const [date, category, text, amount] = [column('date'), column('category'), column('text'), column('amount')];
  return records.map((record) => ({
    date: record[date] ?? '',
    category: record[category] ?? '',
    text: record[text] ?? '',
    amount: parseAmount(record[amount] ?? ''),
  }));
}
