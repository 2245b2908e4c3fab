import { type ScriptedModel, scriptedModel } from 'berth/testing';

/** Long enough to follow what happens, as with a real model. */
const delayMs = 500;

/** A model that drives the real tools with answers that were written down, so that the example needs no key. */
export function scriptedFix(): ScriptedModel {
  return scriptedModel(
    [
      {
        delayMs,
        text: 'I look at the project and run its tests.',
        toolCalls: [
          { name: 'read', input: { path: 'README.md' } },
          { name: 'bash', input: { command: 'npm test' } },
        ],
      },
      {
        delayMs,
        text: 'Two totals are too high, by twice the cents of the refunds. The report adds up what the ledger gives it.',
        toolCalls: [
          { name: 'read', input: { path: 'src/report.ts' } },
          { name: 'read', input: { path: 'src/ledger.ts' } },
          { name: 'read', input: { path: 'src/money.ts' } },
        ],
      },
      {
        delayMs,
        thinking: '-12.50 becomes -12 * 100 + 50 = -1150, and -0.90 becomes 90: only the units have the sign.',
        text: 'The sum is right, but parseAmount gives the sign to the units only, not to the cents.',
        toolCalls: [
          {
            name: 'edit',
            input: {
              path: 'src/money.ts',
              oldText:
                "  const [units, cents = '0'] = plain.split('.');\n  return Number(units) * 100 + Number(cents);\n",
              newText:
                "  const [units, cents = '0'] = plain.replace('-', '').split('.');\n" +
                '  const amount = Number(units) * 100 + Number(cents);\n' +
                "  return plain.startsWith('-') ? -amount : amount;\n",
            },
          },
        ],
      },
      { delayMs, text: 'Now the tests again.', toolCalls: [{ name: 'bash', input: { command: 'npm test' } }] },
      {
        delayMs,
        text: 'All tests pass. An amount under zero lost the sign of its cents in parseAmount, so refunds counted too little.',
      },
    ],
    { id: 'fix-the-bug' },
  );
}
