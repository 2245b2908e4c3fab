import { test } from 'vitest';
import { fuzzTars } from './tar-fuzz.ts';

test('any archive becomes its target or an error of ours, and nothing else', () => fuzzTars({ seed: 7, runs: 200 }));
