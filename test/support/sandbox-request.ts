import { newId } from '../../src/runtime/id.ts';
import type { SandboxRequest } from '../../src/runtime/sandbox/env.ts';

/** What the runtime asks a factory for, for a run where nothing else is said. */
export function sandboxRequest(given: Partial<SandboxRequest> = {}): SandboxRequest {
  const id = newId('run');
  return {
    id,
    kind: 'run',
    key: `${given.kind}/${given.id ?? id}`,
    isDurable: false,
    resume: false,
    signal: new AbortController().signal,
    host: () => Promise.reject(new Error('this sandbox needs no host')),
    onEvent: () => {},
    ...given,
  };
}
