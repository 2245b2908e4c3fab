import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Installs the locked npm packages, unless they are there.
 * @param {import('./progress.js').Progress} progress
 * @param {AbortSignal} signal
 */
export async function installDependencies(progress, signal) {
  if (await areInstalled()) return;
  progress.step('Installing the locked npm packages (npm ci)');
  // No package of ours needs its install script: with them, npm 10 would compile ssh2's optional parts, and npm 11 ask.
  const npm = spawn('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', process.stderr, process.stderr],
    signal,
  });
  const [code] = await once(npm, 'close');
  signal.throwIfAborted();
  if (code !== 0) throw new Error(`npm ci failed with code ${code}; its own messages are above.`);
}

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, link?: boolean }} LockedPackage
 * @typedef {{ packages: Record<string, LockedPackage> }} Lock
 */

/** Compares the lock file with the record that npm leaves in node_modules when it is done: no stamp of our own. */
async function areInstalled() {
  const [wanted, installed] = await Promise.all([
    readLock('package-lock.json'),
    readLock('node_modules/.package-lock.json'),
  ]);
  if (!wanted) throw new Error('package-lock.json is missing.');
  if (!installed) return false;
  return Object.entries(wanted.packages).every(([path, { version, integrity, optional }]) => {
    const found = installed.packages[path];
    // The root is not in npm's record; optional packages are there only where they fit the system.
    if (path === '' || (optional && !found)) return true;
    return found?.version === version && found?.integrity === integrity;
  });
}

/**
 * @param {string} path
 * @returns {Promise<Lock | undefined>}
 */
async function readLock(path) {
  try {
    return JSON.parse(await readFile(new URL(path, new URL('../', import.meta.url)), 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || (error instanceof Error && 'code' in error && error.code === 'ENOENT'))
      return undefined;
    throw error;
  }
}
