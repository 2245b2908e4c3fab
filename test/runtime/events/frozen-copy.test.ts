import { expect, test } from 'vitest';
import { IMAGE_DATA_OMITTED } from '../../../src/runtime/events/event.ts';
import { frozenCopy } from '../../../src/runtime/events/frozen-copy.ts';

// contract: 8-no-images, 8-no-cause
test('makes JSON of anything, without an exception, a stack or the bytes of an image', () => {
  const cyclic: Record<string, unknown> = { a: 1 };
  cyclic.self = cyclic;
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const copy = frozenCopy({
    cyclic,
    nan: Number.NaN,
    big: 5n,
    fn: () => 1,
    undef: undefined,
    inArray: [undefined],
    date: new Date(0),
    map: new Map([[1, 2]]),
    bytes: new Uint8Array(3),
    error: new TypeError('why', { cause: 'secret' }),
    throws: {
      get x() {
        throw new Error('no');
      },
    },
    revoked: revoked.proxy,
    image: { type: 'image', mimeType: 'image/png', data: 'AAAA' },
    nothing: Object.create(null),
  });
  expect(JSON.parse(JSON.stringify(copy))).toEqual({
    cyclic: { a: 1, self: '<cycle>' },
    nan: 'NaN',
    big: '5',
    fn: '() => 1',
    inArray: [null],
    date: expect.any(String),
    map: '[object Map]',
    bytes: '<3 bytes>',
    error: { name: 'TypeError', message: 'why' },
    throws: '<not readable>',
    revoked: '<not readable>',
    image: { type: 'image', mimeType: 'image/png', data: IMAGE_DATA_OMITTED },
    nothing: {},
  });
});
