import { type ScriptedModel, scriptedModel } from 'berth/testing';

const delayMs = 300;
const call = (name: string, input: object, text = '') => ({ delayMs, text, toolCalls: [{ name, input }] });
const edit = (oldText: string, newText: string) => call('edit', { path: 'price.js', oldText, newText });

const rounding = 'The discount is ten times too high, and gives parts of cents.';
const decimals = 'The amount is shown without its last zero.';

/**
 * A model that drives the real tools and Actions with answers that were written down, so that the example needs no key. The
 * answers are those of three conversations, in the order in which they are asked for: the maintainer's, and below it those of
 * the reviewer and of who mends.
 */
export function scriptedMaintainer(): ScriptedModel {
  return scriptedModel(
    [
      call('review', { path: 'price.js' }, 'First a review.'),
      call('read', { path: 'price.js' }),
      call('finish', {
        findings: [
          { line: 3, problem: rounding },
          { line: 8, problem: decimals },
        ],
      }),
      {
        delayMs,
        text: 'Two findings. What are our rules on these?',
        toolCalls: [
          { name: 'house_rule', input: { subject: 'rounding' } },
          { name: 'house_rule', input: { subject: 'money' } },
        ],
      },
      call('fix', { path: 'price.js', problem: `${rounding} Round to the nearest cent.` }),
      edit('cents - (cents * percent) / 10', 'Math.round(cents - (cents * percent) / 100)'),
      { delayMs, text: 'Percents are hundredths now, and the result is rounded.' },
      call('fix', { path: 'price.js', problem: `${decimals} Two decimals, then EUR.` }),
      edit('[cents / 100, ', '[(cents / 100).toFixed(2), '),
      { delayMs, text: 'Amounts have two decimals now.' },
      {
        delayMs,
        text: 'Both findings are mended: discounts are right and in whole cents, and amounts have two decimals.',
      },
    ],
    { id: 'review-and-fix' },
  );
}
