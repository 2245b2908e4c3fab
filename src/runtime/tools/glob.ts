import { posix } from 'node:path';
import * as v from 'valibot';
import { type LoopTool, textResult } from '../model/tool.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { checkedTool } from './arguments.ts';
import { globMatcher } from './glob-pattern.ts';
import { quoted } from './shell.ts';
import type { ToolEnvironment } from './tool-environment.ts';

const LIMIT = 1_000;

export function globTool({ env }: ToolEnvironment): LoopTool {
  return checkedTool({
    name: 'glob',
    description:
      'Finds files by name, the newest first. A pattern without / matches file names at any depth (*.ts), one with / ' +
      'paths below the directory (src/**/*.test.ts).',
    order: 'after-sequential',
    input: v.strictObject({
      pattern: v.pipe(v.string(), v.minLength(1), v.description('A glob: *, **, ?, [abc], {a,b}')),
      path: v.optional(
        v.pipe(v.string(), v.minLength(1), v.description('The directory to search. Default: the working directory')),
      ),
    }),
    async run({ pattern, path = '.' }, { signal }) {
      const { isDirectory } = await env.stat(path);
      if (!isDirectory) throw new Error(`ENOTDIR: ${path} is not a directory.`);
      const found = env.glob
        ? await env.glob(pattern, { path, limit: LIMIT })
        : await globByFind(env, pattern, path, signal);
      if (found.paths.length === 0) return textResult(`No file below ${path} matches ${pattern}.`);
      const lines = found.paths.map((name) => posix.join(path, name));
      if (found.truncated)
        lines.push(`[There are more: these are the newest ${LIMIT}. Narrow the pattern or the path.]`);
      return textResult(lines.join('\n'));
    },
  });
}

/** For sandboxes without a search of their own: any POSIX `find`, and `stat` of GNU or busybox. */
async function globByFind(env: SandboxEnv, pattern: string, path: string, signal: AbortSignal) {
  const command = `cd ${quoted(env.resolvePath(path))} && find . -name .git -prune -o -type f -exec stat -c '%Y %n' {} +`;
  const { stdout, stderr, exitCode, truncated } = await env.exec(command, { signal });
  // Directories that may not be read make it fail; what was found is still true.
  if (exitCode !== 0 && stdout === '')
    throw new Error(`The search failed: ${stderr.trim() || `exit code ${exitCode}`}`);
  const matches = globMatcher(pattern);
  const files = stdout
    .split('\n')
    .map((line) => /^(\d+) \.\/(.+)$/.exec(line))
    .flatMap((match) =>
      match?.[2] !== undefined && matches(match[2]) ? [{ time: Number(match[1]), path: match[2] }] : [],
    )
    .sort((a, b) => b.time - a.time);
  return { paths: files.slice(0, LIMIT).map(({ path }) => path), truncated: truncated || files.length > LIMIT };
}
