import { RuntimeNotFoundError } from '../errors.ts';
import type { EngineTraits } from './traits.ts';

type Runtimes = Pick<EngineTraits, 'podman' | 'runtimes' | 'defaultRuntime'>;

/** Of an engine that does not say what it has, and of shims, the engine itself has to judge. */
export function hasRuntime({ podman, runtimes }: Runtimes, name: string): boolean {
  // Names with dots are shims that Docker finds by itself: io.containerd.kata.v2.
  return name in runtimes || (!podman && (Object.keys(runtimes).length === 0 || name.includes('.')));
}

export function runtimeNames({ runtimes }: Pick<EngineTraits, 'runtimes'>): string[] {
  return Object.keys(runtimes).sort();
}

/**
 * The program behind a runtime of the engine, by its name or, without one, behind the default; `undefined` where the
 * engine does not say.
 * @throws {RuntimeNotFoundError}
 */
export function runtimePath(traits: Runtimes, name: string | undefined): string | undefined {
  const { runtimes, defaultRuntime } = traits;
  if (name !== undefined && !hasRuntime(traits, name)) {
    throw new RuntimeNotFoundError({ runtime: name, known: runtimeNames(traits) });
  }
  const asked = name ?? defaultRuntime;
  return (asked !== undefined && runtimes[asked]?.path) || name;
}
