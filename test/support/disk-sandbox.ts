import { chmod, cp, lstat, mkdir, readdir, readFile, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SandboxGoneError } from '../../src/runtime/errors.ts';
import { sandboxFromDriver } from '../../src/runtime/sandbox/driver.ts';
import type { DriverFork, SandboxDriver, SandboxFactory, WorkOutcome } from '../../src/runtime/sandbox/env.ts';
import { landTree, readTree, type TreeFileSystem, writeTree } from '../../src/runtime/sandbox/virtual-tree.ts';
import { localDriver } from './local-env.ts';

const cwd = '/workspace';

/**
 * A sandbox whose files, forks and checkpoints are below one directory of this machine: a copy of that is the sandbox as it was
 * then. It is there for as long as its directory.
 */
export function diskSandbox(directory: string): SandboxFactory {
  return {
    async createSandbox({ kind, id, resume }) {
      const gone = (reason: string) => new SandboxGoneError({ kind, id, reason });
      if (resume && !(await isThere(join(directory, 'files')))) throw gone('it has no files');
      await mkdir(join(directory, 'files'), { recursive: true });
      return sandboxFromDriver(diskDriver(directory, gone), { cwd });
    },
  };
}

function diskDriver(directory: string, gone: (reason: string) => SandboxGoneError): SandboxDriver {
  const files = join(directory, 'files');
  const at = (path: string) => (path === cwd ? files : path.replace(`${cwd}/`, `${files}/`));
  const own = localDriver();
  return {
    exec: (command, options) => own.exec(command, { ...options, cwd: at(options?.cwd ?? cwd) }),
    readFile: (path) => own.readFile(at(path)),
    readFileBuffer: (path) => own.readFileBuffer(at(path)),
    writeFile: (path, content) => own.writeFile(at(path), content),
    stat: (path) => own.stat(at(path)),
    readdir: (path) => own.readdir(at(path)),
    exists: (path) => own.exists(at(path)),
    mkdir: (path, options) => own.mkdir(at(path), options),
    rm: (path, options) => own.rm(at(path), options),
    fork: ({ names, resume }) =>
      Promise.all(
        names.map(async (name): Promise<DriverFork> => {
          const place = join(directory, 'forks', name);
          if (resume && !(await isThere(place))) throw gone('a fork has no files');
          if (!resume) {
            await rm(place, { recursive: true, force: true });
            await cp(files, join(place, 'base'), { recursive: true });
            await cp(files, join(place, 'files'), { recursive: true });
          }
          return {
            ...diskDriver(place, gone),
            async land({ signal }) {
              const [base, changed] = [
                await readTree(disk, join(place, 'base')),
                await readTree(disk, join(place, 'files')),
              ];
              await landTree(disk, files, { base, changed, signal });
            },
            async dispose(outcome?: WorkOutcome) {
              if (outcome !== 'suspended' && outcome !== 'left') await rm(place, { recursive: true, force: true });
            },
          };
        }),
      ),
    async checkpoint({ name, resume }) {
      const place = join(directory, 'checkpoints', name);
      if (!resume) {
        await rm(place, { recursive: true, force: true });
        await cp(files, place, { recursive: true });
      }
      return {
        rollback: async () => writeTree(disk, files, await readTree(disk, place)),
        drop: () => rm(place, { recursive: true, force: true }),
      };
    },
  };
}

const disk: TreeFileSystem = {
  async lstat(path) {
    const found = await lstat(path);
    const { mode, size, mtime } = found;
    const [isFile, isDirectory, isSymbolicLink] = [found.isFile(), found.isDirectory(), found.isSymbolicLink()];
    return { isFile, isDirectory, isSymbolicLink, mode, size, mtime };
  },
  readdir: (path) => readdir(path),
  readFileBuffer: (path) => readFile(path),
  readlink: (path) => readlink(path),
  writeFile: (path, content) => writeFile(path, content),
  mkdir: (path) => mkdir(path),
  symlink: (target, path) => symlink(target, path),
  chmod: (path, mode) => chmod(path, mode),
  utimes: (path, atime, mtime) => utimes(path, atime, mtime),
  rm: (path, options) => rm(path, options),
};

async function isThere(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined;
}
