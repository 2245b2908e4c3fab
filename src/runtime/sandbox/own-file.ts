import type { SandboxEnv } from './env.ts';

/**
 * Where a file of the working directory is, behind all links, and its size. What it says goes to a model, so a link may
 * not lead out of the directory: over `local()`, out there is this machine.
 * @throws {Error} it is no file, or outside; a sandbox without `realpath` can't tell
 */
export async function ownFile(env: SandboxEnv, path: string): Promise<{ path: string; size: number }> {
  let real = path;
  if (env.realpath) {
    const root = await env.realpath('.');
    real = await env.realpath(path);
    if (!real.startsWith(root === '/' ? root : `${root}/`)) {
      throw new Error('It is a link out of the working directory.');
    }
  }
  const { isFile, size = 0 } = await env.stat(real);
  if (!isFile) throw new Error('It is no file.'); // a pipe, say: reading it would never end
  return { path: real, size };
}
