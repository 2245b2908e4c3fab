import * as v from 'valibot';
import { type LoopTool, textResult } from '../model/tool.ts';
import { checkedTool } from './arguments.ts';
import type { ToolEnvironment } from './tool-environment.ts';

export function writeTool({ env, shared }: ToolEnvironment): LoopTool {
  return checkedTool({
    name: 'write',
    description:
      'Writes a file: creates it, with its parent directories, or replaces all of it. To change a part of a file, use edit.',
    order: 'sequential',
    input: v.strictObject({
      path: v.pipe(
        v.string(),
        v.minLength(1),
        v.description('The file, absolute or relative to the working directory'),
      ),
      content: v.pipe(v.string(), v.description('All of its text')),
    }),
    async run({ path, content }) {
      const bytes = Buffer.from(content);
      await shared.locks.hold(env.resolvePath(path), () => env.writeFile(path, bytes));
      return textResult(`Wrote ${path} (${bytes.length} bytes).`);
    },
  });
}
