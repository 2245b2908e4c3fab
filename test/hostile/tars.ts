import fc from 'fast-check';

/** An entry whose header sums up, whatever is in it. */
export interface LyingEntry {
  type: string;
  name: string;
  link: string;
  content: number;
  /** What the header says of that. */
  size: number | undefined;
  mode: string;
}

const name = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      'tree',
      'tree/',
      'tree/file',
      'tree/directory',
      'tree/link',
      'tree/link/below',
      'tree/a/b',
    ),
  },
  fc.constantFrom(
    '',
    '.',
    '..',
    '/',
    'tree/..',
    '../outside',
    'tree/../../outside',
    'tree/../../../outside',
    '/tmp/berth-test-outside',
    'tree/file/below',
    'tree//./file/.',
    'other',
    `tree/${'n'.repeat(300)}`,
    `tree/${'d/'.repeat(3_000)}`,
    'tree/\u00e9\udcff',
    'tree/\u001b[31m',
    'tree/a\0b',
  ),
);

const target = fc.constantFrom(
  '',
  '.',
  '..',
  'file',
  'link',
  '../link',
  '../..',
  './../../x',
  'a/../../..',
  '/etc/passwd',
  '/tmp',
  'tree/file',
  't'.repeat(5_000),
);

export const lyingTar: fc.Arbitrary<LyingEntry[]> = fc.array(
  fc.record({
    type: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom('0', '5', '2') },
      fc.constantFrom('1', '3', '4', '6', '7', 'x', 'g', 'L', 'K', 'S', '\0', 'Z'),
    ),
    name,
    link: target,
    content: fc.constantFrom(0, 0, 1, 511, 512, 5_000),
    size: fc.option(fc.constantFrom(0, 1, 513, 4_096, 8 ** 11 - 1), { nil: undefined, freq: 6 }),
    mode: fc.constantFrom('0000644', '0000755', '0004755', '0000000', '7777777', 'x', ''),
  }),
  { minLength: 1, maxLength: 8 },
);

/** Names that have no room in the header are in one of pax before it, as an honest sandbox-agent writes them. */
export function tarOf(entries: readonly LyingEntry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const long = [entry.name.length > 100 && ['path', entry.name], entry.link.length > 100 && ['linkpath', entry.link]];
    const pax = long.flatMap((record) => (record ? [paxRecord(record[0] ?? '', record[1] ?? '')] : [])).join('');
    const before =
      pax === '' ? [] : [header({ ...entry, type: 'x', name: 'pax' }, pax.length), padded(Buffer.from(pax))];
    const content = Buffer.alloc(entry.content, 'c');
    return [...before, header(entry, entry.size ?? content.length), padded(content)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1_024)]);
}

function header({ type, name, link, mode }: LyingEntry, size: number): Buffer {
  const block = Buffer.alloc(512);
  block.write(name.slice(0, 100), 0, 100, 'latin1');
  block.write(mode, 100);
  block.write(size.toString(8).padStart(11, '0'), 124);
  block.write(type, 156);
  block.write(link.slice(0, 100), 157, 100, 'latin1');
  block.write('ustar\x0000', 257);
  const sum = block.reduce((total, byte) => total + byte, 8 * 0x20);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  const length = Buffer.byteLength(rest);
  return `${length + String(length + String(length).length).length}${rest}`;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc(-content.length & 511)]);
}
