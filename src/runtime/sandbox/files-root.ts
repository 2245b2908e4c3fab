/** Below it are the files of a transaction or a checkpoint: the directory of the sandbox, unless the work is outside of it. */
export function filesRoot(ofSandbox: string, cwd: string): string {
  return `${cwd}/`.startsWith(ofSandbox === '/' ? '/' : `${ofSandbox}/`) ? ofSandbox : cwd;
}
