import { expect, test } from 'vitest';
import { newId } from '../../src/runtime/id.ts';
import type { SandboxEnv, SandboxRequest } from '../../src/runtime/sandbox/env.ts';
import { virtual } from '../../src/runtime/sandbox/virtual.ts';
import { sandboxContract } from '../../src/testing/sandbox-contract.ts';

/** Runs the suite over the virtual sandbox with some operations replaced, and asked for something else. */
async function failuresOf(
  replaced: (env: SandboxEnv) => Partial<SandboxEnv>,
  asked: (request: SandboxRequest) => SandboxRequest = (request) => request,
): Promise<string[]> {
  const tests: [name: string, work: () => Promise<void>][] = [];
  const hooks: { beforeAll?: () => Promise<void>; afterAll?: () => Promise<void> } = {};
  const runner = {
    describe: (_name: string, define: () => void) => define(),
    test: (name: string, work: () => Promise<void>) => tests.push([name, work]),
    beforeAll: (work: () => Promise<void>) => Object.assign(hooks, { beforeAll: work }),
    afterAll: (work: () => Promise<void>) => Object.assign(hooks, { afterAll: work }),
  };
  const whole = virtual();
  const factory = {
    async createSandbox(request: SandboxRequest) {
      const env = await whole.createSandbox(asked(request));
      return Object.assign(env, replaced(env));
    },
  };
  const traits = { processes: false, background: false, streams: false };
  sandboxContract(runner, { name: 'a broken one', factory: () => factory, traits });
  await hooks.beforeAll?.();
  const failed: string[] = [];
  for (const [name, work] of tests) await work().catch(() => failed.push(name));
  await hooks.afterAll?.();
  return failed;
}

// contract: 10.1-suite
test('the suite passes a sandbox that keeps the rules, and names what another breaks', async () => {
  expect(await failuresOf(() => ({}))).toEqual([]);
  const forgiving = (env: SandboxEnv) => ({ rm: (path: string) => env.exec(`rm -rf '${path}'`).then(() => {}) });
  expect(await failuresOf(forgiving)).toEqual(['fails with an error that says what is wrong']);
  const deaf = ({ exec }: SandboxEnv) => ({
    exec: function (this: SandboxEnv, command: string, { timeoutMs: _, ...options } = {} as { timeoutMs?: number }) {
      return exec.call(this, command.replaceAll('1102', '0.1'), options);
    },
  });
  expect(await failuresOf(deaf)).toEqual(['on a timeout kills the whole tree; the code is 124']);
  const forgetful = (request: SandboxRequest) => ({ ...request, key: newId('key'), resume: false });
  expect(await failuresOf(() => ({}), forgetful)).toEqual([
    'has the files of work that was suspended when it goes on, or says that they are gone',
  ]);
});
