import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { local } from '../../src/runtime/sandbox/local.ts';
import { smallestProgram } from './smallest-program.ts';

let cwd: string;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'berth-test-'));
});

afterAll(() => rm(cwd, { recursive: true, force: true }));

smallestProgram('local()', () => local({ cwd }));
