import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as base } from 'vitest';
import type { Transport } from '../../src/engine/transport/pick.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';

export interface OpenedHost extends AsyncDisposable {
  host: SandboxHost;
  stateDir: string;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A host with a state directory of its own; at its end every sandbox of it is gone. */
export async function openHost(transport?: Transport): Promise<OpenedHost> {
  const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-state-'));
  const host = await SandboxHost.openWith({ stateDir }, transport);
  return {
    host,
    stateDir,
    async [Symbol.asyncDispose]() {
      const sandboxes = await host.list();
      await Promise.all(sandboxes.map(({ id }) => host.remove(id)));
      await host.collect();
      await host.close();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

interface Fixtures {
  host: SandboxHost;
  sandbox: Sandbox;
  ofFile: Sandbox;
  shared: Sandbox;
}

/**
 * `host` serves a whole file; `sandbox` is a real container, gone after the test, its id printed when that fails.
 * `shared` is one for a whole file, as to make one takes a second of work: each test finds an empty working directory, and
 * no command of its user that runs. It is not for what changes more of the sandbox, or needs it to be new.
 */
export const test = base.extend<Fixtures>({
  host: [
    // biome-ignore lint/correctness/noEmptyPattern: vitest reads from the pattern what a fixture needs
    async ({}, use) => {
      await using opened = await openHost();
      await use(opened.host);
    },
    { scope: 'file' },
  ],
  sandbox: async ({ host, onTestFailed }, use) => {
    const sandbox = await host.create();
    onTestFailed(() => console.error(`the test's sandbox was ${sandbox.id}`));
    try {
      await use(sandbox);
    } finally {
      await sandbox.remove();
    }
  },
  ofFile: [
    async ({ host }, use) => {
      await using sandbox = await host.create();
      await use(sandbox);
    },
    { scope: 'file' },
  ],
  shared: async ({ ofFile, onTestFailed }, use) => {
    onTestFailed(() => console.error(`the test's sandbox was ${ofFile.id}`));
    await use(ofFile);
    const { exitCode, stderr } = await ofFile.exec('kill -KILL -1; chmod -R u+rwx . && find . -mindepth 1 -delete');
    if (exitCode !== 0) throw new Error(`it can not be used by the next test: ${stderr}`);
  },
});
