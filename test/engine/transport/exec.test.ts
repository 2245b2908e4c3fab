import { once } from 'node:events';
import { Duplex, Readable, Writable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ExecStream } from '../../../src/engine/transport/exec.ts';

test('closes when the command has ended, also while nobody takes what is being written', async () => {
  const connection = new Duplex({ read() {}, write() {} }); // never says that a write is done
  const stream = new ExecStream(connection, () => {});
  stream.resume().write('something');
  connection.push(null);
  await once(stream, 'close');
  expect(connection.destroyed).toBe(true);
});

test('gives each output its bytes, whatever the pieces and the cuts, and no more than a little of standard error', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ output: fc.constantFrom(0, 1, 2, 255), content: fc.uint8Array({ maxLength: 3_000 }) })),
      fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1 }),
      async (pieces, sizes) => {
        const sent = Buffer.concat(
          pieces.flatMap(({ output, content }) => {
            const header = Buffer.alloc(8);
            header.writeUInt8(output, 0);
            header.writeUInt32BE(content.length, 4);
            return [header, content];
          }),
        );
        const cuts = (function* () {
          for (let at = 0, count = 0; at < sent.length; count++) {
            const size = sizes[count % sizes.length] ?? 1;
            yield sent.subarray(at, at + size);
            at += size;
          }
        })();
        const connection = Duplex.from({ readable: Readable.from(cuts), writable: new Writable() });
        const errors: Buffer[] = [];
        const stream = new ExecStream(connection, (chunk) => errors.push(Buffer.from(chunk)));
        const isOutput = (wanted: boolean) =>
          Buffer.concat(pieces.filter(({ output }) => (output === 1) === wanted).map(({ content }) => content));
        expect(Buffer.concat(await stream.toArray())).toEqual(isOutput(true));
        expect(Buffer.concat(errors)).toEqual(isOutput(false).subarray(0, 4_096));
      },
    ),
  ));
