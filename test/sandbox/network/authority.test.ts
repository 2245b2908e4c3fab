import { X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { Authority } from '../../../src/sandbox/network/authority.ts';

const dayMs = 24 * 60 * 60 * 1000;

test('an authority is another one each time, and its certificates are valid since a day ago, for slow clocks', async () => {
  const [one, other] = [await Authority.make(), await Authority.make()];
  const own = new X509Certificate(one.certificate);
  const server = new X509Certificate((await one.certificateFor('api.test')).cert);
  expect(server.checkIssued(own) && server.verify(own.publicKey)).toBe(true);
  expect(server.verify(new X509Certificate(other.certificate).publicKey)).toBe(false);
  expect([server.checkHost('api.test'), server.checkHost('x.api.test'), server.ca]).toEqual([
    'api.test',
    undefined,
    false,
  ]);
  for (const { validFrom, validTo } of [own, server]) {
    expect(Date.now() - Date.parse(validFrom)).toBeGreaterThanOrEqual(dayMs);
    expect(Date.parse(validTo) - Date.now()).toBeGreaterThan(7 * dayMs);
  }
  expect(one.certificate).not.toContain('PRIVATE');
});
