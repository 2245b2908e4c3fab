import type { SandboxEnv } from '../sandbox/env.ts';
import type { SkillReference } from '../skills/skill.ts';
import { PathLocks } from './path-locks.ts';

/** The first one that is there, as the third knows no `.gitignore`. */
export type Searcher = 'rg' | 'git' | 'grep';

/** What the built-in tools keep for one sandbox, shared by all harnesses that work in it. */
export class SandboxTools {
  readonly locks = new PathLocks();
  /** The directory in the sandbox for outputs that were too long for the model; made when the first one comes. */
  outputDirectory: string | undefined;
  /** What searches where the sandbox itself does not; looked for once. */
  searcher: Promise<Searcher> | undefined;

  /** Removes the outputs that were kept. Only needed where the sandbox outlives its work. */
  async removeOutputs(env: SandboxEnv): Promise<void> {
    if (this.outputDirectory !== undefined) await env.rm(this.outputDirectory, { recursive: true, force: true });
    this.outputDirectory = undefined;
  }
}

/** What each built-in tool works with. */
export interface ToolEnvironment {
  env: SandboxEnv;
  shared: SandboxTools;
  /** The model takes images. */
  seesImages: boolean;
  /** By which the sandbox knows the command of a call again. */
  key(toolCallId: string): string;
  /** Whose files can be read too. Default: none */
  skills?: readonly SkillReference[];
}
