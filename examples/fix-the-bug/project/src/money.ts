/** Money is counted in cents: sums of whole numbers are exact. */
export type Cents = number;

/** The cents of an amount as people write it: `1,234.50`. */
export function parseAmount(text: string): Cents {
  const plain = text.trim().replaceAll(',', '');
  if (!/^-?\d+(\.\d\d)?$/.test(plain)) throw new SyntaxError(`Not an amount: ${JSON.stringify(text)}`);
  const [units, cents = '0'] = plain.split('.');
  return Number(units) * 100 + Number(cents);
}

/** An amount as people read it: `1,234.50`. */
export function formatAmount(amount: Cents): string {
  const sign = amount < 0 ? '-' : '';
  const units = Math.floor(Math.abs(amount) / 100);
  const cents = String(Math.abs(amount) % 100).padStart(2, '0');
  return `${sign}${units.toLocaleString('en')}.${cents}`;
}
