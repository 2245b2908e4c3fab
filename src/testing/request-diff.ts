import type { AskedRequest } from './recording.ts';

const MOST_LINES = 5;
const LONGEST_LINE = 200;

/** Where a request is not the one that was recorded, in words. */
export function requestDiff(recorded: AskedRequest, now: AskedRequest): string[] {
  const found = [
    ...diff('system prompt', recorded.system, now.system),
    ...diff('thinking level', recorded.thinkingLevel, now.thinkingLevel),
  ];
  const tools = (asked: AskedRequest) => new Map(asked.tools.map((tool) => [tool.name, tool]));
  const [before, after] = [tools(recorded), tools(now)];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    found.push(...diff(`tool ${name}`, before.get(name), after.get(name)));
  }
  for (let i = 0; i < Math.max(recorded.messages.length, now.messages.length); i++) {
    const [was, is] = [recorded.messages[i], now.messages[i]];
    found.push(...diff(`message ${i + 1} (${(is ?? was)?.role})`, was, is));
  }
  return found;
}

function diff(where: string, recorded: unknown, now: unknown): string[] {
  if (Object.is(recorded, now)) return [];
  if (recorded === undefined) return [`${where} is new\n${shown('+', now)}`];
  if (now === undefined) return [`${where} is missing\n${shown('-', recorded)}`];
  if (typeof recorded === 'string' && typeof now === 'string') return [lineDiff(where, recorded, now)];
  if (!isObject(recorded) || !isObject(now)) return [`${where}\n${shown('-', recorded)}\n${shown('+', now)}`];
  return [...new Set([...Object.keys(recorded), ...Object.keys(now)])].flatMap((key) =>
    diff(`${where}, ${key}`, recorded[key], now[key]),
  );
}

/** The lines between what both begin and end with. */
function lineDiff(where: string, recorded: string, now: string): string {
  const [before, after] = [recorded.split('\n'), now.split('\n')];
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && before[start] === after[start]) start++;
  let end = 0;
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const lines = (sign: string, all: string[]) => {
    const changed = all.slice(start, all.length - end);
    const more = changed.length > MOST_LINES ? [`  … and ${changed.length - MOST_LINES} lines more`] : [];
    return [...changed.slice(0, MOST_LINES).map((line) => shown(sign, line)), ...more];
  };
  return [`${where}, line ${start + 1}`, ...lines('-', before), ...lines('+', after)].join('\n');
}

function shown(sign: string, value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return `  ${sign} ${text.length > LONGEST_LINE ? `${text.slice(0, LONGEST_LINE)}…` : text}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
