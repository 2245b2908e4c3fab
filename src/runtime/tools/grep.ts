import { posix } from 'node:path';
import * as v from 'valibot';
import type { Match } from '../../sandbox/index.ts';
import { type LoopTool, textResult } from '../model/tool.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { checkedTool } from './arguments.ts';
import { keepStart } from './cut.ts';
import { expandBraces, globMatcher } from './glob-pattern.ts';
import { quoted } from './shell.ts';
import type { Searcher, ToolEnvironment } from './tool-environment.ts';

const LIMIT = 100;
const LINE_LENGTH = 500;

interface Search {
  pattern: string;
  path: string;
  include: string | undefined;
  literal: boolean;
  signal: AbortSignal;
}

interface Found {
  matches: Match[];
  /** How many there are in all; left out when that is not known. */
  total?: number;
  truncated: boolean;
}

export function grepTool({ env, shared }: ToolEnvironment): LoopTool {
  return checkedTool({
    name: 'grep',
    description:
      'Searches the contents of files and gives path:line:text for each line that matches. Files that .gitignore names, ' +
      'and binary files, are left out.',
    order: 'after-sequential',
    input: v.strictObject({
      pattern: v.pipe(v.string(), v.minLength(1), v.description('A regular expression')),
      path: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.description('The file or directory to search. Default: the working directory'),
        ),
      ),
      include: v.optional(
        v.pipe(v.string(), v.minLength(1), v.description('Only files that match this glob, as in *.ts')),
      ),
      literal: v.optional(v.pipe(v.boolean(), v.description('The pattern is plain text. Default: false'))),
    }),
    async run({ pattern, path = '.', include, literal = false }, { signal }) {
      const stat = await env.stat(path); // a wrong path is an error here, and not "no match" later
      const found: Found = env.grep
        ? await env.grep(pattern, { path, literal, limit: LIMIT, ...(include !== undefined && { include }) })
        : await searchByExec(env, shared, { pattern, path, include, literal, signal });
      if (found.matches.length === 0) return textResult(`No line matches ${pattern}.`);
      const lines = found.matches.map(({ path: name, line, text }) => {
        const shown = stat.isDirectory ? posix.join(path, name) : path;
        return `${shown}:${line}:${keepStart(text, LINE_LENGTH)}`;
      });
      if (found.truncated) {
        const total = found.total === undefined ? 'more' : `${found.total} in all`;
        lines.push(
          `[These are the first ${lines.length} matches; there are ${total}. Narrow the pattern, path or include.]`,
        );
      }
      return textResult(lines.join('\n'));
    },
  });
}

/** For sandboxes without a search of their own: ripgrep where there is one, else git, else `grep -r`. */
async function searchByExec(env: SandboxEnv, shared: ToolEnvironment['shared'], search: Search): Promise<Found> {
  const { path, include, signal } = search;
  const searcher = await findSearcher(env, shared);
  // The others are asked for patterns of names only; what is said of directories is looked at here.
  const matchesInclude = searcher !== 'rg' && include?.includes('/') ? globMatcher(include) : undefined;
  const target = env.resolvePath(path);
  const [folder, name] = [posix.dirname(target), posix.basename(target)].map(quoted);
  const command = [
    // Searched from inside, so that names come relative to the path.
    `if cd ${quoted(target)} 2>/dev/null; then target=.; else cd ${folder} && target=./${name}; fi`,
    `{ ${commands[searcher](search)}; echo "code $?" >&2; } |`,
    // A NUL ends each name, which may hold colons, but not every awk can have one in a line.
    "tr '\\000' '\\001' |",
    // Counts on where it no longer prints. Lines are cut before they cross over; some awks count bytes: there is room.
    `awk 'NR <= ${matchesInclude ? 100_000 : LIMIT} { print substr($0, 1, 8000) } END { print NR }'`,
  ].join('\n');
  const { stdout, stderr, exitCode } = await env.exec(command, { signal });
  const lines = stdout.trimEnd().split('\n');
  const printed = Number(lines.pop());
  const [, code] = /^code (\d+)$/m.exec(stderr) ?? [];
  if (exitCode !== 0 || (printed === 0 && code !== '0' && code !== '1')) {
    throw new Error(`The search failed: ${stderr.replace(/^code \d+$/m, '').trim() || `exit code ${exitCode}`}`);
  }
  const parsed = lines.flatMap((line): Match[] => {
    const [, name, number, text] = /^(?:\.\/)?([^\x01]+)\x01(\d+)[:\x01](.*)$/s.exec(line) ?? [];
    return name === undefined || text === undefined ? [] : [{ path: name, line: Number(number), text }];
  });
  if (!matchesInclude) return { matches: parsed, total: printed, truncated: printed > parsed.length };
  const matches = parsed.filter((match) => matchesInclude(match.path));
  return { matches: matches.slice(0, LIMIT), total: matches.length, truncated: matches.length > LIMIT };
}

/** Looked for once per sandbox; a failure to look is not kept. */
async function findSearcher(env: SandboxEnv, shared: ToolEnvironment['shared']): Promise<Searcher> {
  shared.searcher ??= env.exec('command -v rg || command -v git').then(({ stdout, exitCode }) => {
    if (exitCode !== 0) return 'grep';
    return posix.basename(stdout.trim()) === 'rg' ? 'rg' : 'git';
  });
  try {
    return await shared.searcher;
  } catch (error) {
    shared.searcher = undefined;
    throw error;
  }
}

const commands: Record<Searcher, (search: Search) => string> = { rg: ripgrep, git: gitGrep, grep: plainGrep };

function ripgrep({ pattern, include, literal }: Search): string {
  const words = ['rg', '--null', '--line-number', '--no-heading', '--with-filename', '--color=never', '--sort=path'];
  words.push('--hidden', '--no-require-git', '--no-config', '--glob=!.git');
  if (literal) words.push('--fixed-strings');
  // A glob would also bring back what .gitignore leaves out; a type does not, but knows names only.
  if (include?.includes('/')) words.push(`--glob=${include}`);
  else if (include !== undefined) words.push(`--type-add=wanted:${include}`, '--type=wanted');
  return `${words.map(quoted).join(' ')} -e ${quoted(pattern)} -- "$target"`;
}

/** Of files, whether or not they are in a repository. */
function gitGrep({ pattern, include, literal }: Search): string {
  const words = [
    'git',
    '--no-pager',
    'grep',
    '--no-index',
    '--exclude-standard',
    '-n',
    '-I',
    '-H',
    '--null',
    '--no-color',
  ];
  words.push(literal ? '-F' : '-E', '-e', pattern, '--');
  const targets =
    include === undefined ? ['"$target"'] : names(include).map((name) => `":(glob)$target/**/"${quoted(name)}`);
  return `${words.map(quoted).join(' ')} ${targets.join(' ')}`;
}

function plainGrep({ pattern, include, literal }: Search): string {
  const words = ['grep', '-r', '-n', '-I', '-H', '--null', literal ? '-F' : '-E', '--exclude-dir=.git'];
  if (include !== undefined) words.push(...names(include).map((name) => `--include=${name}`));
  return `${words.map(quoted).join(' ')} -e ${quoted(pattern)} -- "$target"`;
}

/** The patterns of names that files of `include` have. */
function names(include: string): string[] {
  return expandBraces(include.slice(include.lastIndexOf('/') + 1));
}
