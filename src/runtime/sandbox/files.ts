import type { SandboxDriver } from './env.ts';

/** Files of a sandbox. Relative paths resolve against its working directory. */
export type Files = Pick<
  SandboxDriver,
  'readFile' | 'readFileBuffer' | 'writeFile' | 'stat' | 'readdir' | 'exists' | 'mkdir' | 'rm'
>;

/** The files of a sandbox for as long as `check` does not throw. */
export function checkedFiles(files: Files, check: () => void): Files {
  const checked =
    <Arguments extends unknown[], Result>(operation: (...given: Arguments) => Promise<Result>) =>
    async (...given: Arguments): Promise<Result> => {
      check();
      return operation.apply(files, given);
    };
  return {
    readFile: checked(files.readFile),
    readFileBuffer: checked(files.readFileBuffer),
    writeFile: checked(files.writeFile),
    stat: checked(files.stat),
    readdir: checked(files.readdir),
    exists: checked(files.exists),
    mkdir: checked(files.mkdir),
    rm: checked(files.rm),
  };
}
