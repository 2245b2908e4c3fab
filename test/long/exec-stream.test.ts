import { createHash } from 'node:crypto';
import Docker from 'dockerode';
import { expect, test } from 'vitest';
import { randomFrom } from '../support/cutting-proxy.ts';
import { openHost } from '../support/sandbox-fixture.ts';

test('over the exec stream of the engine, too, nothing is lost when that is cut again and again', async () => {
  await using opened = await openHost('exec');
  const sandbox = await opened.host.create();
  const made = await sandbox.exec('head -c 30000000 /dev/urandom > a; sha256sum a');
  const container = new Docker().getContainer(`berth-${sandbox.id}`);
  const find =
    'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline | grep -q "agent.cjs [b]ridge" && basename $p; done';
  const random = randomFrom(7);
  let cuts = 0;
  let isOver = false;
  const cutting = (async () => {
    while (!isOver) {
      await new Promise((resolve) => setTimeout(resolve, 100 + random() * 400));
      const command = await container.exec({
        Cmd: ['sh', '-c', `for p in $(${find}); do kill -9 $p && echo cut; done`],
        AttachStdout: true,
      });
      const stream = await command.start({});
      let printed = '';
      for await (const chunk of stream) printed += chunk;
      if (printed.includes('cut')) cuts++;
    }
  })();
  for (let round = 0; round < 5; round++) {
    const hash = createHash('sha256');
    const result = await sandbox.exec(
      'for i in 0 1 2 3 4 5; do tail -c +$((i * 5000000 + 1)) a | head -c 5000000; sleep 0.2; done',
      {
        onStdout: (chunk) => hash.update(chunk),
        maxOutput: 0,
      },
    );
    expect(result).toMatchObject({ exitCode: 0, stdoutBytes: 30_000_000 });
    expect(hash.digest('hex')).toBe(made.stdout.slice(0, 64));
  }
  isOver = true;
  await cutting;
  expect(cuts).toBeGreaterThan(3);
});
