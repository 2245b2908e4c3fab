import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { toolBench } from './tool-bench.ts';

const png = Buffer.from('\x89PNG\r\n\x1a\n rest of the image', 'latin1');

describe('read', () => {
  // contract: 5-read-lines
  test('gives lines as they are', async () => {
    await using bench = await toolBench();
    await bench.write('a.txt', '\tone\r\ntwo \n\nfour');
    expect(await bench.text('read', { path: 'a.txt' })).toBe('\tone\r\ntwo \n\nfour');
    expect(await bench.text('read', { path: bench.env.resolvePath('a.txt') })).toBe('\tone\r\ntwo \n\nfour');
    await bench.write('empty.txt', '');
    expect(await bench.text('read', { path: 'empty.txt' })).toBe('');
  });

  // contract: 5-read-range, 4.2-built-in-coercion
  test('from offset, up to limit, without a note', async () => {
    await using bench = await toolBench();
    await bench.write('a.txt', 'one\ntwo\nthree\nfour\n');
    expect(await bench.text('read', { path: 'a.txt', offset: 2, limit: 2 })).toBe('two\nthree\n');
    expect(await bench.text('read', { path: 'a.txt', offset: '4', limit: '9' })).toBe('four\n');
  });

  // contract: 5-read-cut, 5-cut
  test('stops after 2,000 lines and says where to go on', async () => {
    await using bench = await toolBench();
    const lines = Array.from({ length: 2_001 }, (_, i) => `line ${i + 1}\n`);
    await bench.write('a.txt', lines.join(''));
    const text = await bench.text('read', { path: 'a.txt', limit: 5_000 });
    expect(text).toBe(`${lines.slice(0, 2_000).join('')}[Lines 1 to 2000 of 2001. Go on with offset 2001.]`);
    expect(await bench.text('read', { path: 'a.txt', offset: 2_001 })).toBe('line 2001\n');
    expect(await bench.text('read', { path: 'a.txt', offset: 2 })).toBe(lines.slice(1).join(''));
  });

  // contract: 5-read-cut, 5-cut
  test('stops before the line that does not fit into 50 KB', async () => {
    await using bench = await toolBench();
    const line = `${'é'.repeat(512)}\n`; // 1,025 bytes: 49 of them fit
    await bench.write('a.txt', line.repeat(60));
    expect(await bench.text('read', { path: 'a.txt' })).toBe(
      `${line.repeat(49)}[Lines 1 to 49 of 60. Go on with offset 50.]`,
    );
    await bench.write('exact.txt', `${'x'.repeat(50 * 1024 - 1)}\n`);
    expect(await bench.text('read', { path: 'exact.txt' })).toHaveLength(50 * 1024);
  });

  // contract: 5-read-long-line, 5-cut
  test('gives the beginning of a first line that is too long, whole characters only', async () => {
    await using bench = await toolBench();
    await bench.write('a.txt', `x${'é'.repeat(40_000)}\nshort\n`);
    const text = await bench.text('read', { path: 'a.txt' });
    const [beginning = '', note] = text.split('\n');
    expect(beginning).toBe(`x${'é'.repeat(25_599)}`);
    expect(note).toContain("can't be reached by offset");
    expect(note).toContain('Go on with offset 2.');
  });

  // contract: 5-read-past-end
  test('past the end says how many lines there are', async () => {
    await using bench = await toolBench();
    await bench.write('a.txt', 'one\ntwo\n');
    expect(await bench.error('read', { path: 'a.txt', offset: 3 })).toBe(
      'a.txt has 2 lines; offset 3 is past its end.',
    );
  });

  // contract: 5-read-binary
  test('refuses what is no text, with size and kind', async () => {
    await using bench = await toolBench({ seesImages: false });
    await bench.write('nul', 'a\0b');
    await bench.write('latin1', Buffer.from('caf\xe9 au lait', 'latin1'));
    await bench.write('late', Buffer.concat([Buffer.alloc(20_000, 'a\n'), Buffer.from([0xff])]));
    await bench.write('a.zip', Buffer.from('PK\x03\x04\x00ip'));
    await bench.write('a.png', png);
    expect(await bench.error('read', { path: 'nul' })).toBe('nul is not UTF-8 text (binary, 3 bytes).');
    expect(await bench.error('read', { path: 'latin1' })).toContain('not UTF-8 text (binary, 12 bytes)');
    expect(await bench.error('read', { path: 'a.zip' })).toContain('(application/zip, 7 bytes)');
    expect(await bench.error('read', { path: 'a.png' })).toContain('(image/png');
    // Only what is given is looked at.
    expect(await bench.text('read', { path: 'late', limit: 1 })).toBe('a\n');
    expect(await bench.error('read', { path: 'late', offset: 9_999 })).toContain('not UTF-8');
  });

  test('takes text whose character lies across the first 8 KB', async () => {
    await using bench = await toolBench();
    const text = `${'x'.repeat(8 * 1024 - 1)}é`;
    await bench.write('a.txt', text);
    expect(await bench.text('read', { path: 'a.txt' })).toBe(text);
  });

  // contract: 5-read-image
  test('shows an image to a model that sees, by its bytes and not by its name', async () => {
    await using bench = await toolBench();
    await bench.write('picture.txt', png);
    const { content } = await bench.call('read', { path: 'picture.txt' });
    expect(content).toEqual([
      { type: 'text', text: `picture.txt (image/png, ${png.length} bytes)` },
      { type: 'image', data: png.toString('base64'), mimeType: 'image/png' },
    ]);
    await bench.write('large.png', Buffer.concat([png, Buffer.alloc(10 * 1024 * 1024)]));
    expect(await bench.error('read', { path: 'large.png' })).toContain('too large');
  });

  // contract: 5-read-directory
  test('of a directory or of nothing is an error with its POSIX name', async () => {
    await using bench = await toolBench();
    expect(await bench.error('read', { path: '.' })).toContain('EISDIR');
    expect(await bench.error('read', { path: 'missing' })).toContain('ENOENT');
  });
});

describe('write', () => {
  // contract: 5-write
  test('makes the file and its parents, replaces it, and says how many bytes', async () => {
    await using bench = await toolBench();
    expect(await bench.text('write', { path: 'deep/er/a.txt', content: 'é\n' })).toBe('Wrote deep/er/a.txt (3 bytes).');
    await bench.call('write', { path: 'deep/er/a.txt', content: '' });
    expect(await bench.env.readFile('deep/er/a.txt')).toBe('');
  });
});

describe('edit', () => {
  async function edited(before: string | Uint8Array, input: object) {
    await using bench = await toolBench();
    await bench.write('a.txt', before);
    const result = await bench.call('edit', { path: 'a.txt', ...input });
    return { after: await readFile(bench.env.resolvePath('a.txt'), 'utf8'), ...result };
  }

  async function failed(before: string | Uint8Array, input: object) {
    await using bench = await toolBench();
    await bench.write('a.txt', before);
    const error = await bench.error('edit', { path: 'a.txt', ...input });
    expect(await readFile(bench.env.resolvePath('a.txt'))).toEqual(Buffer.from(before));
    return error;
  }

  // contract: 5-edit-literal, 5-edit-diff
  test('replaces the one place, literally', async () => {
    const { after, details } = await edited('a (b) $1\nc\n', { oldText: '(b) $1', newText: "$& $' $$" });
    expect(after).toBe("a $& $' $$\nc\n");
    expect(details).toEqual({
      diff: "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-a (b) $1\n+a $& $' $$\n c\n",
    });
  });

  // contract: 5-edit-empty, 5-edit-untouched
  test('wants oldText, and one that differs from newText', async () => {
    expect(await failed('abc', { oldText: '', newText: 'x' })).toContain('empty');
    expect(await failed('abc', { oldText: 'b', newText: 'b' })).toContain('nothing to change');
  });

  // contract: 5-edit-none, 5-edit-untouched
  test('that finds nothing tells to look at white space and shows the nearest lines', async () => {
    const before = 'function a() {\n\treturn 1;\n}\nfunction b() {\n\treturn 2;\n}\n';
    const error = await failed(before, { oldText: 'function b() {\n  return 2;\n}', newText: 'x' });
    expect(error).toContain('white space and indentation');
    expect(error).toContain('from line 4 on, are:\nfunction b() {\n\treturn 2;\n}');
    expect(await failed('abc', { oldText: 'qqqq', newText: 'x' })).not.toContain('nearest');
  });

  // contract: 5-edit-many, 5-edit-untouched
  test('that finds more than one place says where they are', async () => {
    const error = await failed('a\nb\na\n', { oldText: 'a', newText: 'x' });
    expect(error).toContain('2 times (lines 1, 3)');
    expect(error).toContain('replaceAll');
  });

  // contract: 5-edit-all, 5-edit-diff
  test('replaces all when told to, not overlapping, and says how many', async () => {
    const { after, content, details } = await edited('aaa\nb\nc\nd\ne\nf\ng\nh\naa\n', {
      oldText: 'aa',
      newText: 'x',
      replaceAll: 'true',
    });
    expect(after).toBe('xa\nb\nc\nd\ne\nf\ng\nh\nx\n');
    expect(content).toEqual([{ type: 'text', text: 'Edited a.txt in 2 places.' }]);
    expect(details).toEqual({
      diff:
        '--- a/a.txt\n+++ b/a.txt\n@@ -1,4 +1,4 @@\n-aaa\n+xa\n b\n c\n d\n' + '@@ -6,4 +6,4 @@\n f\n g\n h\n-aa\n+x\n',
    });
    expect(await failed('abc', { oldText: 'zz', newText: 'x', replaceAll: true })).toContain('not in a.txt');
  });

  // contract: 5-edit-crlf
  test('matches LF with CRLF, which the file keeps', async () => {
    const { after } = await edited('one\r\ntwo\r\nthree\r\n', { oldText: 'one\ntwo\n', newText: '1\n2\n2.5\n' });
    expect(after).toBe('1\r\n2\r\n2.5\r\nthree\r\n');
    expect((await edited('one\r\ntwo\r\n', { oldText: 'two', newText: '2\n3' })).after).toBe('one\r\n2\r\n3\r\n');
    expect((await edited('one\r\ntwo', { oldText: 'one', newText: '0\n1' })).after).toBe('0\r\n1\r\ntwo');
    expect((await edited('one\ntwo\r\n', { oldText: 'one\n', newText: '0\n1\n' })).after).toBe('0\n1\ntwo\r\n');
  });

  // contract: 5-edit-untouched
  test('keeps a byte order mark, and refuses a file that it would damage', async () => {
    expect((await edited('\ufeffabc', { oldText: 'abc', newText: 'd' })).after).toBe('\ufeffd');
    const latin1 = Buffer.from('caf\xe9 abc', 'latin1');
    expect(await failed(latin1, { oldText: 'abc', newText: 'd' })).toContain('not UTF-8');
  });

  test('shows in its diff that a file has no newline at its end', async () => {
    const { details } = await edited('a\nb', { oldText: 'b', newText: 'c\n' });
    expect(details).toEqual({
      diff: '--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n',
    });
  });

  test('gives a diff that `git apply` takes', async () => {
    const before = Array.from({ length: 60 }, (_, i) => `line ${i % 7}\n`).join('');
    await using bench = await toolBench();
    await bench.write('a.txt', before);
    await bench.write('b.txt', before);
    for (const input of [
      { oldText: 'line 3\nline 4\n', newText: 'new\n', replaceAll: true },
      { oldText: 'line 0\n', newText: '', replaceAll: true },
      { oldText: 'line 6', newText: 'six\nseven', replaceAll: true },
    ]) {
      const { details } = await bench.call('edit', { path: 'a.txt', ...input });
      await bench.write('diff', (details as { diff: string }).diff); // what edit says of itself
      const patched = await bench.env.exec('sed -i s:a.txt:b.txt:g diff && git apply diff');
      expect(patched).toMatchObject({ exitCode: 0, stderr: '' });
      expect(await bench.env.readFile('b.txt')).toBe(await bench.env.readFile('a.txt'));
    }
  });

  // contract: 5-edit-lock
  test('of one file waits for another, so that neither is lost', async () => {
    await using bench = await toolBench();
    await bench.write('a.txt', Array.from({ length: 20 }, (_, i) => `<${i}>`).join(''));
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        bench.call('edit', { path: i % 2 ? 'a.txt' : './x/../a.txt', oldText: `<${i}>`, newText: `[${i}]` }),
      ),
    );
    expect(await bench.env.readFile('a.txt')).toBe(Array.from({ length: 20 }, (_, i) => `[${i}]`).join(''));
  });
});

// contract: 5-arguments
test('arguments that do not fit are refused with their path', async () => {
  await using bench = await toolBench();
  expect(await bench.error('read', { path: 'a', offset: 'two' })).toContain('arguments.offset');
  expect(await bench.error('read', { path: 'a', offset: 0 })).toContain('arguments.offset');
  expect(await bench.error('read', { file: 'a' })).toContain('arguments');
  expect(await bench.error('edit', { path: 'a', oldText: 'a' })).toContain('arguments.newText');
  expect(await bench.error('write', ['a'])).toContain('arguments');
});

// contract: 5-read-no-further
test('read ends the stream when it has the lines that were asked for', async () => {
  await using bench = await toolBench();
  await bench.write('a.txt', '');
  let chunks = 0;
  let ended = false;
  bench.env.createReadStream = async function* () {
    try {
      for (; chunks < 1_000; chunks++) yield Buffer.from('line\n'.repeat(1_000));
    } finally {
      ended = true;
    }
  };
  expect(await bench.text('read', { path: 'a.txt', offset: 2, limit: 2 })).toBe('line\nline\n');
  expect(ended).toBe(true);
  expect(chunks).toBeLessThan(10);
});
