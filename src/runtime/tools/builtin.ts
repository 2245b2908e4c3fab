import type { LoopTool } from '../model/tool.ts';
import { bashTool } from './bash.ts';
import { editTool } from './edit.ts';
import { globTool } from './glob.ts';
import { grepTool } from './grep.ts';
import { readTool } from './read.ts';
import type { ToolEnvironment } from './tool-environment.ts';
import { writeTool } from './write.ts';

export const builtinToolNames = ['read', 'write', 'edit', 'bash', 'grep', 'glob'] as const;

/** The six built-in tools, at work in one environment. */
export function builtinTools(environment: ToolEnvironment): LoopTool[] {
  return [readTool, writeTool, editTool, bashTool, grepTool, globTool].map((tool) => tool(environment));
}
