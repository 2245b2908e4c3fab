import type Docker from 'dockerode';
import { RuntimeNotFoundError } from '../errors.ts';

interface Runtimes {
  Runtimes?: Record<string, { path?: string }> | null;
  DefaultRuntime?: string;
}

/**
 * The program behind a runtime of the engine, by its name or, without one, behind the default; `undefined` where the
 * engine does not say.
 * @throws {RuntimeNotFoundError}
 */
export async function findRuntime(docker: Docker, name: string | undefined): Promise<string | undefined> {
  const { Runtimes, DefaultRuntime }: Runtimes = await docker.info();
  const runtimes = Runtimes ?? {};
  const known = Object.keys(runtimes).sort();
  // Names with dots are shims that the engine finds by themselves: io.containerd.kata.v2.
  const isShim = name?.includes('.') === true;
  if (name !== undefined && known.length > 0 && !known.includes(name) && !isShim) {
    throw new RuntimeNotFoundError({ runtime: name, known });
  }
  const asked = name ?? DefaultRuntime;
  return (asked !== undefined && runtimes[asked]?.path) || name;
}
