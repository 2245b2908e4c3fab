import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readLedger } from '../src/ledger.ts';
import { report, totals } from '../src/report.ts';

const march = `date,category,text,amount
2026-03-02,books,"Field guide, used",12.50
2026-03-03,maps,"Alps, 1:50,000",19.90
2026-03-05,books,Atlas,36.00
2026-03-09,books,Refund: field guide,-12.50
2026-03-11,maps,Voucher,-0.90
`;

test('adds up each category', () => {
  const sales = readLedger(march.slice(0, march.indexOf('2026-03-09')));
  assert.deepEqual(Object.fromEntries(totals(sales)), { books: 4_850, maps: 1_990 });
});

test('a refund takes its amount from the category', () => {
  const sums = totals(readLedger(march));
  assert.deepEqual(Object.fromEntries(sums), { books: 3_600, maps: 1_900 });
});

test('lists the largest category first and the sum of all last', () => {
  const lines = report(readLedger('date,category,text,amount\n2026-03-02,a,x,1\n2026-03-02,b,y,2\n')).split('\n');
  assert.deepEqual(lines, ['b                   2.00', 'a                   1.00', 'total               3.00', '']);
});
