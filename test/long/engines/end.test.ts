import { expect, test } from 'vitest';
import { openHostOn } from './host-on-engine.ts';
import { reasonToSkip, startEngine } from './second-engine.ts';

test.skipIf(reasonToSkip).for(['stop', 'crash'] as const)(
  'a sandbox whose engine is gone by a %s is said to be lost, and goes on with its files when that is back',
  async (how) => {
    await using engine = await startEngine();
    await using opened = await openHostOn(engine);
    const sandbox = await opened.host.create();
    await sandbox.fs.writeFile('file', 'kept');
    const { promise: up, resolve } = withResolvers();
    const waiting = sandbox.exec('echo up; sleep 1000', { onStdout: resolve });
    const lost = expect(waiting).rejects.toMatchObject({ code: 'sandbox_died', meta: { reason: 'lost' } });
    await up;
    await engine[how]();
    // One that is stopped in good order tells of its containers' end.
    if (how === 'stop') await lost;
    await engine.start();
    await lost;
    const end = how === 'stop' ? { reason: 'killed', exitCode: 137 } : { reason: 'lost', exitCode: 255 };
    expect(await sandbox.info()).toMatchObject({ state: 'exited', end });
    await sandbox.start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
  },
);

function withResolvers() {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
