// Who may import whom: one rule for each row of the table in the architecture's description. Imports go downwards only.
const everyone = ['^src/errors\\.ts$'];

/** What each layer may import besides itself. */
const layers = {
  '^src/errors\\.ts$': [],
  '^src/protocol/': [],
  '^sandbox-agent/': ['^src/protocol/'],
  '^src/engine/': ['^src/protocol/'],
  '^src/sandbox/': ['^src/engine/', '^src/protocol/'],
  '^src/journal/': [],
  '^src/runtime/': ['^src/sandbox/', '^src/journal/'],
  '^src/otel/': ['^src/runtime/'],
  '^src/testing/': ['^src/runtime/', '^src/sandbox/'],
  '^src/client/': ['^src/sandbox/'],
  '^src/adapters/': ['^src/sandbox/'],
  '^src/server/': ['^src/runtime/', '^src/sandbox/', '^src/journal/'],
  // doctor and image are about the engine itself.
  '^src/cli/': ['^src/server/', '^src/runtime/', '^src/sandbox/', '^src/engine/', '^src/testing/', '^src/index\\.ts$'],
};

module.exports = {
  forbidden: [
    ...Object.entries(layers).map(([layer, below]) => ({
      name: `layer ${layer.replace(/[\\^$]/g, '')}`,
      severity: 'error',
      from: { path: layer },
      to: { path: '^(src|sandbox-agent|test|scripts|bench|examples)/', pathNot: [layer, ...below, ...everyone] },
    })),
    {
      name: 'every folder has a layer',
      severity: 'error',
      from: { path: '^src/', pathNot: [...Object.keys(layers), '^src/index\\.ts$'] },
      to: {},
    },
    {
      name: 'no I/O in the protocol',
      severity: 'error',
      from: { path: '^src/protocol/' },
      // It computes only.
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?stream$' },
    },
    {
      name: 'what takes memory is loaded when it is needed',
      severity: 'error',
      from: { path: '^sandbox-agent/', pathNot: 'screen-thread' },
      // By `promises` of `node:fs`, or `process.getBuiltinModule`. All of it would be a sixth of what the sandbox-agent has;
      // what it needs of `node:crypto` is in openssl.ts.
      to: {
        path: '^(node:)?(crypto|dgram|fs/promises|worker_threads)$',
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'no unresolved import',
      severity: 'error',
      from: {},
      // Its list of built-in modules is that of the Node it runs on; the sandbox-agent's is newer.
      to: { couldNotResolve: true, pathNot: '^(node:)?ffi$' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node', 'default'] },
  },
};
