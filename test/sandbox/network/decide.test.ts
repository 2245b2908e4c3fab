import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { decide, namesOf, stillAllows } from '../../../src/sandbox/network/decide.ts';
import {
  isPublic,
  type NetworkPolicy,
  networkPolicy,
  normalAddress,
  type Rule,
} from '../../../src/sandbox/network/policy.ts';

const compiled = (policy: NetworkPolicy) => {
  const result = v.parse(networkPolicy, policy);
  if (!result) throw new Error('none');
  return result;
};
const allowing = (...allow: Rule[]) => compiled({ allow });

/** What is decided, where each name has these addresses. */
async function decided(
  policy: NetworkPolicy,
  target: { host: string; port?: number; request?: { method: string; path: string } },
  names: Record<string, string[]> = {},
) {
  const resolve = async (name: string) => {
    const found = names[name];
    if (!found) throw new Error(`ENOTFOUND ${name}`);
    return found;
  };
  return decide(compiled(policy), { port: 443, ...target }, resolve);
}

const publicAddress = '93.184.216.34';

describe('a rule', () => {
  test.each([
    ['api.github.com', 'api.github.com', 443, true],
    ['api.github.com', 'api.github.com', 80, true],
    ['api.github.com', 'api.github.com', 22, false],
    ['api.github.com', 'API.GitHub.com.', 443, true],
    ['api.github.com', 'x.api.github.com', 443, false],
    ['api.github.com', 'api.github.com.evil.test', 443, false],
    ['*.github.com', 'api.github.com', 443, true],
    ['*.github.com', 'a.b.github.com', 443, true],
    ['*.github.com', 'github.com', 443, false],
    ['*.github.com', 'evilgithub.com', 443, false],
    ['db.test:5432', 'db.test', 5432, true],
    ['db.test:5432', 'db.test', 443, false],
    ['bücher.test', 'xn--bcher-kva.test', 443, true],
    ['xn--bcher-kva.test', 'BÜCHER.test', 443, true],
  ])('%s: %s at %i is allowed: %s', async (rule, host, port, allowed) => {
    const everything = new Proxy({}, { get: () => [publicAddress] });
    expect((await decided({ allow: [rule] }, { host, port }, everything)).allowed).toBe(allowed);
  });

  test.each([
    ['10.1.2.3', '10.1.2.3', 443, true],
    ['10.1.2.3', '10.1.2.4', 443, false],
    ['10.1.0.0/16:22', '10.1.255.1', 22, true],
    ['10.1.0.0/16:22', '10.2.0.1', 22, false],
    ['10.1.0.0/16:22', '10.1.255.1', 443, false],
    ['10.1.2.3', '::ffff:10.1.2.3', 443, true],
    ['10.1.2.3', '[::ffff:a01:203]', 443, true],
    ['[2001:db8::1]:8443', '2001:db8:0:0::1', 8443, true],
    ['2001:db8::/32', '[2001:db8:ffff::1]', 443, true],
    ['2001:db8::/32', '2001:db9::1', 443, false],
    ['::1', '127.0.0.1', 443, false],
  ])('%s: the address %s at %i is allowed: %s', async (rule, host, port, allowed) => {
    expect((await decided({ allow: [rule] }, { host, port })).allowed).toBe(allowed);
  });

  test.each([
    ['', 'is no host'],
    ['*', "network: 'open'"],
    ['a b', 'is no host'],
    ['*.*.test', 'is no host'],
    ['a..test', 'is no host'],
    ['https://api.github.com', 'leave out scheme'],
    ['api.github.com/path', 'leave out scheme'],
    ['10.0.0.0/33', 'is no range'],
    ['10.0.0.0/', 'is no range'],
    ['db.test:0', 'port'],
    ['db.test:65536', 'port'],
  ])('is refused when it is %j', (rule, message) => {
    expect(() => allowing(rule)).toThrow(message);
  });

  test('with options names ports, methods and beginnings of paths; a field that it does not have is refused', async () => {
    const policy = { allow: [{ host: 'api.test', ports: [80], methods: ['GET'], paths: ['/v1/'] }] };
    const names = { 'api.test': [publicAddress] };
    const ask = async (method: string, path: string) =>
      (await decided(policy, { host: 'api.test', port: 80, request: { method, path } }, names)).allowed;
    expect(await ask('GET', '/v1/users')).toBe(true);
    expect(await ask('POST', '/v1/users')).toBe(false);
    expect(await ask('GET', '/v2/')).toBe(false);
    // Of a tunnel nobody knows what goes through it.
    expect((await decided(policy, { host: 'api.test', port: 80 }, names)).allowed).toBe(false);
    expect(namesOf(compiled(policy))).toEqual([{ pattern: 'api.test', ports: [80] }]); // where its requests are looked into
    expect(() => allowing({ host: 'api.test', method: 'GET' } as never)).toThrow();
    expect(() => allowing({ host: 'api.test:80', ports: [80] })).toThrow('twice');
  });
});

describe('a name', () => {
  test('is refused with an address that is not public, also when others are, unless a rule names that address', async () => {
    const names = { 'api.test': [publicAddress, '10.0.0.5'] };
    expect(await decided({ allow: ['api.test'] }, { host: 'api.test' }, names)).toEqual({
      allowed: false,
      reason: 'api.test has the address 10.0.0.5, which is not public, and no rule allows that',
      hint: "to allow it, add '10.0.0.5:443' to network.allow of the sandbox",
    });
    expect(await decided({ allow: ['api.test', '10.0.0.0/24'] }, { host: 'api.test' }, names)).toMatchObject({
      allowed: true,
      rule: 'api.test',
      addresses: [publicAddress, '10.0.0.5'],
    });
  });

  test.each(['open', { allow: ['api.test'] }] as const)('has to have an address, under %j', async (policy) => {
    expect(await decided(policy, { host: 'api.test' })).toMatchObject({ reason: expect.stringContaining('ENOTFOUND') });
    expect(await decided(policy, { host: 'api.test' }, { 'api.test': [] })).toMatchObject({ allowed: false });
  });

  test('that looks like an address, or is none, is not one', async () => {
    for (const host of ['0x7f.1', '2130706433', '127.1', '', 'a b', 'a\0b', '[::1', '::1%lo']) {
      expect(await decided('open', { host }, { '2130706433': ['127.0.0.1'] })).toMatchObject({ allowed: false });
    }
  });
});

describe('open', () => {
  test.each([
    ...['0.0.0.0', '10.0.0.1', '100.64.0.1', '127.0.0.1', '169.254.169.254', '172.31.255.255', '192.168.1.1'],
    ...['198.18.0.1', '203.0.113.9', '224.0.0.1', '255.255.255.255', '192.0.0.192'],
    ...['::', '::1', 'fe80::1', 'fd00:ec2::254', 'fc00::1', 'ff02::1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
    ...['64:ff9b::7f00:1', '2002:7f00:1::', '2001:0:1::1', '2001:db8::1', '::127.0.0.1'],
  ])('does not allow %s, which is not public', async (host) => {
    expect(isPublic(normalAddress(host) ?? '')).toBe(false);
    expect(await decided('open', { host })).toMatchObject({ allowed: false });
    expect(await decided('open', { host: 'x.test' }, { 'x.test': [host] })).toMatchObject({ allowed: false });
  });

  test('allows public addresses, and names that have only such, at any port', async () => {
    for (const host of [publicAddress, '2606:2800:220:1::1', '::ffff:93.184.216.34']) {
      expect(await decided('open', { host, port: 12_345 })).toMatchObject({ allowed: true, rule: 'open' });
    }
    expect(await decided('open', { host: 'x.test', port: 22 }, { 'x.test': [publicAddress] })).toMatchObject({
      allowed: true,
    });
  });
});

test('another policy lets go on what it allows by name and by address', () => {
  const target = { host: 'api.test', port: 443 };
  expect(stillAllows(allowing('api.test'), target, publicAddress)).toBe(true);
  expect(stillAllows(allowing('api.test'), target, '10.0.0.5')).toBe(false);
  expect(stillAllows(allowing('api.test', '10.0.0.5'), target, '10.0.0.5')).toBe(true);
  expect(stillAllows(allowing('other.test'), target, publicAddress)).toBe(false);
  expect(stillAllows(compiled('open'), target, publicAddress)).toBe(true);
  expect(stillAllows(compiled('open'), { host: '10.0.0.5', port: 443 }, '10.0.0.5')).toBe(false);
});
