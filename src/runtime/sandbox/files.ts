import type { Steps } from '../run/step.ts';
import type { SandboxDriver, SandboxEnv } from './env.ts';

/** Files of a sandbox. Relative paths resolve against its working directory. */
export type Files = Pick<
  SandboxDriver,
  'readFile' | 'readFileBuffer' | 'writeFile' | 'stat' | 'readdir' | 'exists' | 'mkdir' | 'rm'
>;

/** The files of a sandbox for as long as `check` does not throw. Each change is a step of its own. */
export function recordedFiles(env: SandboxEnv, steps: Steps, check: () => void): Files {
  const checked =
    <Arguments extends unknown[], Result>(operation: (...given: Arguments) => Promise<Result>) =>
    async (...given: Arguments): Promise<Result> => {
      check();
      return operation.apply(env, given);
    };
  // What is written is no part of what the call is: it may come from what was read, which is not recorded.
  const recorded =
    <Further extends unknown[]>(kind: string, operation: (path: string, ...further: Further) => Promise<void>) =>
    async (path: string, ...further: Further): Promise<void> => {
      check();
      await steps.next(kind, path).perform(() => operation.call(env, path, ...further));
    };
  return {
    readFile: checked(env.readFile),
    readFileBuffer: checked(env.readFileBuffer),
    writeFile: recorded('fs.writeFile', env.writeFile),
    stat: checked(env.stat),
    readdir: checked(env.readdir),
    exists: checked(env.exists),
    mkdir: recorded('fs.mkdir', env.mkdir),
    rm: recorded('fs.rm', env.rm),
  };
}
