import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createProgress } from '../../scripts/progress.js';

function terminal(isTTY: boolean) {
  let text = '';
  const stream = Object.assign(
    new Writable({
      write(chunk, _encoding, done) {
        text += chunk;
        done();
      },
    }),
    { isTTY, columns: 40 },
  );
  // Of a terminal's stream, only these two are looked at besides `write`.
  return { progress: createProgress(stream as unknown as NodeJS.WriteStream), text: () => text };
}

test('when nothing was missing says it in one line, or not at all', () => {
  const { progress, text } = terminal(false);
  progress.ready('ready', { quiet: true });
  expect(text()).toBe('');
  progress.ready('ready');
  expect(text()).toBe('✓ ready\n');
});

test('writes plain lines where there is no terminal, one for each quarter of a step', () => {
  const { progress, text } = terminal(false);
  progress.step('Installing');
  for (let percent = 0; percent <= 100; percent += 1) progress.detail(`file ${percent}`, percent / 100);
  progress.detail('cleaning');
  progress.detail('cleaning');
  progress.ready('ready', { quiet: true });
  expect(text().split('\n').slice(0, -2)).toEqual([
    '• Installing',
    '  25 % file 25',
    '  50 % file 50',
    '  75 % file 75',
    '  100 % file 100',
    '  cleaning',
  ]);
});

test('on a terminal keeps the details in one line that never wraps, and clears it', () => {
  const { progress, text } = terminal(true);
  progress.step('Installing');
  progress.detail('a'.repeat(100), 0.5);
  progress.fail('broken');
  const lines = text().split(/\r|\n/);
  expect(Math.max(...lines.map((line) => line.replace('\x1b[K', '').length))).toBeLessThanOrEqual(40);
  expect(text()).toMatch(/\r\x1b\[K✗ broken\n$/);
});
