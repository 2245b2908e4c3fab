import { chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SandboxHost } from '../../../src/sandbox/host.ts';
import type { SecondEngine } from './second-engine.ts';

export interface HostOnEngine extends AsyncDisposable {
  host: SandboxHost;
  /** How the wire reaches a sandbox. */
  wireOf(sandboxId: string): Promise<string | undefined>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * A host with a state directory of its own on that engine; at its end every sandbox of it is gone.
 * @param engine.owner - to whom the state directory is given; a rootless engine sees no others
 */
export async function openHostOn({
  address,
  docker,
  owner,
}: Pick<SecondEngine, 'address' | 'docker' | 'owner'>): Promise<HostOnEngine> {
  const stateDir = await mkdtemp(join(tmpdir(), 'bes-'));
  const host = await SandboxHost.open({ stateDir, docker: address });
  if (owner) {
    const inside = (await readdir(stateDir)).map((name) => join(stateDir, name));
    for (const path of [stateDir, ...inside]) await chown(path, owner.uid, owner.gid);
  }
  return {
    host,
    wireOf: async (id) => (await docker.getContainer(`berth-${id}`).inspect()).Config.Labels['berth.wire'],
    async [Symbol.asyncDispose]() {
      for (const { id } of await host.list()) await host.remove(id);
      await host.close();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}
