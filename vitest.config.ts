import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url));

/** What takes longest of all. Last, one of them alone would keep a single core at work. */
const longest = [
  'sandbox/fork',
  'sandbox/fs/checkpoint',
  'runtime/sandbox/docker',
  'cli/sandbox',
  'network/clients',
  'sandbox/memory',
];

/** Begins with the longest: a fresh clone has no times of an earlier run, and vitest goes by the size of the files then. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => longest.some((name) => moduleId.endsWith(`${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/** They measure the memory of their process, look at all that it does not handle, or change where it works. */
const apart = [
  'docs/run-blocks',
  'hostile/*',
  'sandbox/{faults,memory}',
  'sandbox/fs/checkpoint',
  'sandbox/preview/preview',
].map((name) => `test/${name}.test.ts`);

export default defineConfig({
  resolve: {
    alias: [
      { find: /^berth$/, replacement: source('index.ts') },
      { find: /^berth\/sandbox$/, replacement: source('sandbox/index.ts') },
      { find: /^berth\/otel$/, replacement: source('otel/index.ts') },
      { find: /^berth\/testing\/sandbox-contract$/, replacement: source('testing/sandbox-contract.ts') },
      { find: /^berth\/testing$/, replacement: source('testing/index.ts') },
    ],
  },
  test: {
    sequence: { sequencer: LongestFirst },
    // Vitest leaves one core to others; but most of a test is to wait for the engine. With one more each takes that much longer.
    maxWorkers: '100%',
    // A machine that is busy takes many times as long: only what hangs is to be ended.
    globalSetup: ['test/build.ts'],
    setupFiles: ['test/seed.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    projects: [
      {
        extends: true,
        test: { name: 'apart', include: apart },
      },
      {
        extends: true,
        // Not each in a process of its own: to load what they test would take a second and more, two hundred times.
        test: {
          name: 'together',
          // Not as `exclude`: a project that has one of its own does not see that of the command line.
          include: ['test/**/*.test.ts', ...['test/{alone,long}/**', ...apart].map((path) => `!${path}`)],
          isolate: false,
        },
      },
      {
        extends: true,
        // What these take away, all others use.
        test: {
          name: 'alone',
          include: ['test/alone/**/*.test.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        // Run by `npm run test:long` only: minutes each, or an engine of their own.
        test: { name: 'long', include: ['test/long/**/*.test.ts'], fileParallelism: false, testTimeout: 900_000 },
      },
    ],
  },
});
