import { type ScriptedModel, scriptedModel } from 'berth/testing';

const delayMs = 350; // about as long as it takes to read along

/** A model whose answers are written down. It drives the same tools as a real one, on the same files. */
export function scriptedEngineer(): ScriptedModel {
  return scriptedModel(
    [
      {
        delayMs,
        text: '(scripted) I run the tests first, to see what fails.',
        toolCalls: [{ name: 'bash', input: { command: 'npm test' } }],
      },
      {
        delayMs,
        text: 'The refund is counted wrong: both totals are too high. I read the test and the report.',
        toolCalls: [
          { name: 'read', input: { path: 'test/report.test.ts' } },
          { name: 'read', input: { path: 'src/report.ts' } },
        ],
      },
      {
        delayMs,
        text: 'The report only adds up what it is given, so the amounts are wrong before. Where do they come from?',
        toolCalls: [
          { name: 'grep', input: { pattern: 'parseAmount', path: 'src' } },
          { name: 'read', input: { path: 'src/ledger.ts' } },
          { name: 'read', input: { path: 'src/money.ts' } },
        ],
      },
      {
        delayMs,
        text:
          'Here it is: parseAmount gives the sign to the units only. "-12.50" becomes -1200 + 50, and of "-0.90" the ' +
          'sign is lost altogether. I take the sign off first and put it back on the whole.',
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
      {
        delayMs,
        text: 'No test of money.ts had an amount under zero, so I add one.',
        toolCalls: [
          {
            name: 'edit',
            input: {
              path: 'test/money.test.ts',
              oldText: "test('refuses what is no amount', () => {\n",
              newText:
                "test('reads amounts under zero, also those of less than one unit', () => {\n" +
                "  assert.equal(parseAmount('-12.50'), -1_250);\n" +
                "  assert.equal(parseAmount('-0.90'), -90);\n" +
                '});\n\n' +
                "test('refuses what is no amount', () => {\n",
            },
          },
          { name: 'bash', input: { command: 'npm test' } },
        ],
      },
      {
        delayMs,
        text:
          'All tests pass. The bug was in parseAmount (src/money.ts): the sign of an amount under zero was given to its ' +
          'units, but not to its cents. It now holds for the whole amount, and a test says so.',
      },
    ],
    { id: 'engineer' },
  );
}
