import { test } from 'vitest';
import { openWayOut } from '../support/way-out.ts';
import { fuzzRequests } from './request-fuzz.ts';

test('programs and servers say anything where requests are looked into, and honest ones are served after that', async () => {
  await using out = await openWayOut();
  await fuzzRequests(out, { seed: 7, runs: 40 });
});
