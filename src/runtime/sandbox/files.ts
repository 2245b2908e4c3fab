import type { SandboxDriver } from './env.ts';

/** Files of a sandbox. Relative paths resolve against its working directory. */
export type Files = Pick<
  SandboxDriver,
  'readFile' | 'readFileBuffer' | 'writeFile' | 'stat' | 'readdir' | 'exists' | 'mkdir' | 'rm'
>;
