import { expect, test } from 'vitest';
import { TerminalScreen } from '../../../src/cli/print/screen.ts';
import { Terminal } from './terminal.ts';

test('final lines stay and the region below them is drawn over', () => {
  const terminal = new Terminal(80);
  const screen = new TerminalScreen(terminal);
  screen.live(['working', '1s']);
  screen.print(['done: a']);
  screen.live(['working on b', '2s']);
  expect(terminal.lines).toEqual(['done: a', 'working on b', '2s']);
  screen.print(['done: b', 'done: c']);
  screen.live(['3s']);
  expect(terminal.lines).toEqual(['done: a', 'done: b', 'done: c', '3s']);
});

test('leaves only final lines behind, also of what is drawn after the end', () => {
  const terminal = new Terminal(80);
  const screen = new TerminalScreen(terminal);
  screen.print(['done']);
  screen.live(['working', '1s']);
  screen.close();
  screen.live(['too late']);
  screen.print(['last words']);
  expect(terminal.lines).toEqual(['done', 'last words']);
});

test('each change is one write, and what did not change is none', () => {
  const terminal = new Terminal(80);
  const screen = new TerminalScreen(terminal);
  screen.live(['working']);
  screen.live(['working']);
  screen.print(['done']);
  expect(terminal.writes).toBe(2);
});

test('the region never takes more rows than the terminal has', () => {
  const terminal = new Terminal(80);
  const screen = new TerminalScreen(terminal);
  screen.live(Array.from({ length: 100 }, (_, i) => `line ${i}`));
  expect(terminal.lines.length).toBeLessThan(terminal.rows);
  expect(terminal.lines.at(-1)).toBe('line 99');
});
