import { expect, test } from 'vitest';
import { resolver } from '../../../src/sandbox/network/resolver.ts';
import { openNameServer } from '../../support/name-server.ts';

test('a name is asked for once by all who want it at once, and anew by who comes later', async () => {
  let last = 0;
  await using server = await openNameServer({ 'api.test': () => [`10.0.0.${++last}`] });
  const resolve = resolver([server.address]);
  const many = () => Promise.all(Array.from({ length: 300 }, () => resolve('api.test')));
  expect(new Set((await many()).flat())).toEqual(new Set(['10.0.0.1']));
  expect(new Set((await many()).flat())).toEqual(new Set(['10.0.0.2']));
  await expect(resolve('lost.test')).rejects.toThrow('ENOTFOUND');
  await expect(resolve('lost.test')).rejects.toThrow('ENOTFOUND');
});
