import { afterAll, beforeAll, describe } from 'vitest';
import { testSandboxes } from './behaviour.ts';
import { type HostOnEngine, openHostOn } from './host-on-engine.ts';
import { install, reasonToSkip, type SecondEngine, startPodman } from './second-engine.ts';

const name = `Podman${reasonToSkip === undefined ? '' : `: ${reasonToSkip}`}`;
describe.skipIf(reasonToSkip !== undefined)(name, () => {
  let engine: SecondEngine;
  let opened: HostOnEngine;
  beforeAll(async () => {
    await install({ podman: 'podman', crun: 'crun' });
    engine = await startPodman();
    opened = await openHostOn(engine);
  }, 300_000);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  testSandboxes(
    () => opened.host,
    (id) => opened.wireOf(id),
    { wire: 'unix' },
  );
});
