import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Emulator } from '../../../sandbox-agent/pty/emulator.ts';
import { OuterTerminal } from '../../support/outer-terminal.ts';

const size = { columns: 20, rows: 6 };
const maxBytes = 4 * 1024 * 1024;

/** What one who comes after `before` sees in the end, and what one sees who was there from the start. */
async function compare(before: Uint8Array, after: Uint8Array) {
  const whole = Buffer.concat([before, after]);
  const emulator = new Emulator(size);
  await emulator.write(before);
  const restored = emulator.restore(maxBytes);
  if (!restored) throw new Error('no screen');
  const late = new OuterTerminal(size.columns, size.rows);
  // Somebody used it before.
  await late.write('\x1b[31mold\x1b[?1049h\x1b[?25l\x1b[2;4r\x1b(0\x1b[4h\x1b[?1002h');
  await late.write(restored.screen);
  await late.write(whole.subarray(restored.from));
  const early = new OuterTerminal(size.columns, size.rows);
  await early.write(whole);
  return { late, early };
}

const text = fc.constantFrom(
  'a',
  'hello ',
  'ü',
  '漢字',
  '😀',
  '─',
  'x'.repeat(19),
  'x'.repeat(20),
  'long line '.repeat(5),
  ' ',
);
const sequence = fc.constantFrom(
  '\r\n', '\r', '\n', '\b', '\t',
  '\x1b[31m', '\x1b[1;4m', '\x1b[38;5;200;48;2;1;2;3m', '\x1b[7m', '\x1b[0m',
  '\x1b[H', '\x1b[3;5H', '\x1b[A', '\x1b[2D', '\x1b[K', '\x1b[J', '\x1b[2J', '\x1b[2L', '\x1b[M', '\x1b[3P', '\x1b[2@', '\x1b[4X',
  '\x1b[?1049h', '\x1b[?1049l', '\x1b[2;4r', '\x1b[r', '\x1b[?6h', '\x1b[?6l', '\x1b7', '\x1b8',
  '\x1b[?25l', '\x1b[?25h', '\x1b[?1h', '\x1b=', '\x1b>', '\x1b[?2004h', '\x1b[?1002;1006h', '\x1b[?1000l', '\x1b[?7h', '\x1b[4h', '\x1b[4l',
  '\x1b(0', '\x1b(B', '\x1b)0', '\x0e', '\x0f', '\x1b[3g', '\x1bH', '\x1b[5 q', '\x1b[?1004h', '\x1b]0;title\x07', '\x1b]2;other\x1b\\', '\x1bPdata\x1b\\', '\x1bc', '\x1bM', '\x1bD',
); // biome-ignore format: a table
const decoration = fc.constantFrom(
  '\x1b[4m', '\x1b[4:3m', '\x1b[21m', '\x1b[58;2;1;2;3m', '\x1b[58:5:9m', '\x1b[59m', '\x1b[24m', '\x1b[0m', '\x1b[1;31m',
  '\x1b]8;;http://one\x1b\\', '\x1b]8;id=a;http://two\x07', '\x1b]8;;\x1b\\', '\r\n', '\x1b[H', '\x1b[3;5H', '\x1b[K', '\x1b[3P', '\x1b[?1049h',
); // biome-ignore format: a table
const broken = fc.constantFrom(
  ...[
    'c29b33316d',
    'c28461',
    'c29d303b61c29c',
    'c29061c285',
    'e6bc',
    'f09f98',
    'ff',
    'a0',
    '1b5b33',
    '1b5d32',
    '1b50',
    '1b',
    '18',
    '1b1b63',
    '1b5b3120',
    '7f',
    '1b287f',
    '1bc3a9',
  ],
);
const output = fc
  .array(
    fc.oneof(
      { weight: 5, arbitrary: text },
      { weight: 5, arbitrary: sequence },
      { weight: 1, arbitrary: broken.map((hex) => Buffer.from(hex, 'hex')) },
    ),
    { maxLength: 40 },
  )
  .map((pieces) => Buffer.concat(pieces.map((piece) => Buffer.from(piece))));

describe('a screen that is restored', () => {
  test('is that of one who was there from the start, wherever it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(output, fc.nat(), async (bytes, cut) => {
        const at = bytes.length === 0 ? 0 : cut % (bytes.length + 1);
        const { late, early } = await compare(bytes.subarray(0, at), bytes.subarray(at));
        expect(late.state).toEqual(early.state);
      }),
      { numRuns: Number(process.env.RUNS ?? 100) },
    );
  });

  test('has the links, and the lines under its text in their style and colour, wherever it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(text, decoration), { maxLength: 30 }), fc.nat(30), async (pieces, cut) => {
        const [before, after] = [pieces.slice(0, cut), pieces.slice(cut)].map((some) => Buffer.from(some.join('')));
        const { late, early } = await compare(before ?? Buffer.of(), after ?? Buffer.of());
        expect(late.decorations).toEqual(early.decorations);
      }),
      { numRuns: Number(process.env.RUNS ?? 100) },
    );
  });

  test('leaves out a link that no terminal takes, and is not larger for many than its bound', async () => {
    const emulator = new Emulator({ columns: 200, rows: 50 });
    const link = (uri: string) => `\x1b]8;;${uri}\x1b\\x\x1b]8;;\x1b\\`;
    await emulator.write(Buffer.from(link(`http://${'long'.repeat(1_000)}`)));
    expect(Buffer.from(emulator.restore(maxBytes)?.screen ?? []).toString()).not.toContain('long');
    const many = Array.from({ length: 9_000 }, (_, at) => link(`http://${at}/${'l'.repeat(1_000)}`));
    await emulator.write(Buffer.from(many.join('')));
    expect(emulator.restore(maxBytes)?.screen.length).toBeLessThan(512 * 1024);
  });

  test('has the colours that were given to it, of those that a terminal may have', async () => {
    const emulator = new Emulator(size);
    const set = [
      '4;1;rgb:12/34/56;2;#123456',
      '4;3;?',
      '4;300;red',
      '10;#111;#222;#333;#444',
      '4;5;a b',
      '110',
      '104;1',
    ];
    await emulator.write(Buffer.from(set.map((one) => `\x1b]${one}\x07`).join('')));
    const drawn = Buffer.from(emulator.restore(maxBytes)?.screen ?? []).toString();
    expect([...drawn.matchAll(/\x1b\](1?\d;[^8\x1b][^\x1b]*)\x1b\\/g)].map(([, one]) => one)).toEqual([
      '4;2;#123456',
      '11;#222',
      '12;#333',
    ]);
    await emulator.write(Buffer.from('\x1b]104\x07\x1b]111\x07\x1b]112\x07'));
    expect(Buffer.from(emulator.restore(maxBytes)?.screen ?? []).toString()).not.toContain('\x1b]1');
  });

  test('has the title and the keys that were asked for', async () => {
    const emulator = new Emulator(size);
    await emulator.write(Buffer.from('\x1b]2;a title\x07\x1b[>4;2m\x1b[>1u\x1b[>5u\x1b[<u'));
    const { screen } = emulator.restore(maxBytes) ?? {};
    expect(Buffer.from(screen ?? []).toString()).toMatch(/\x1b\[>4;2m\x1b\[>1u\x1b\]2;a title\x07$/);
  });

  test('is of another size when the terminal was given one, in between', async () => {
    const emulator = new Emulator(size);
    await emulator.write(Buffer.from('one\r\n'));
    emulator.resize({ columns: 30, rows: 4 });
    await emulator.write(Buffer.from(`${'x'.repeat(30)}y`));
    const late = new OuterTerminal(30, 4);
    await late.write(emulator.restore(maxBytes)?.screen ?? '');
    expect(late.lines).toEqual(['one', 'x'.repeat(30), 'y', '']);
  });

  test('has a bound: the lines above it go first', async () => {
    const emulator = new Emulator(size);
    await emulator.write(Buffer.from(Array.from({ length: 5_000 }, (_, line) => `line ${line}`).join('\r\n')));
    const late = new OuterTerminal(size.columns, size.rows);
    await late.write(emulator.restore(maxBytes)?.screen ?? '');
    expect([late.lines.length, late.lines[0], late.lines.at(-1)]).toEqual([1_006, 'line 3994', 'line 4999']);
    const alone = new OuterTerminal(size.columns, size.rows);
    await alone.write(emulator.restore(4_000)?.screen ?? '');
    expect(alone.lines).toEqual(late.lines.slice(-6));
    expect(emulator.restore(100)).toBeUndefined();
  });
});

describe('output that is made to take all memory or time', () => {
  test.for<[string, string]>([
    [
      'a count of two thousand millions',
      "a\x1b[2147483647b\x1b[2147483647L\x1b[2147483647M\x1b[2147483647S\x1b[2147483647I\x1b[2147483647'}",
    ],
    ['a long character that is repeated', `a${'\u0301'.repeat(100_000)}\x1b[1000b`],
    ['a string without an end', `\x1b]2;${'x'.repeat(1_000_000)}`],
  ])('%s is left out', async ([, output]) => {
    const emulator = new Emulator(size);
    await emulator.write(Buffer.from(`before${output}`));
    await emulator.write(Buffer.from('\x1b\\\r\nafter'));
    const late = new OuterTerminal(size.columns, size.rows);
    await late.write(emulator.restore(maxBytes)?.screen ?? '');
    expect(late.lines.slice(0, 2)).toEqual([expect.stringMatching(/^before/), 'after']);
  });

  test('a terminal of the largest size has a screen of a size that can be kept', async () => {
    const emulator = new Emulator({ columns: 65_535, rows: 65_535 });
    await emulator.write(Buffer.from('\x1b[?1049h\x1b[65535;65535Hx'));
    expect(emulator.restore(maxBytes)?.from).toBe(23);
    emulator.resize({ columns: 1, rows: 1 });
    await emulator.write(Buffer.from('text'));
    expect(emulator.restore(maxBytes)).toBeDefined();
  });
});
