import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { attachmentId, withImages, withoutImages } from '../../../src/runtime/session/attachments.ts';
import { AttachmentConflictError } from '../../../src/runtime/session/errors.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';

const record = { message: { content: [{ type: 'image', data: 'AAEC', mimeType: 'image/png' }] } };

// contract: 7.3-attachments-checked
test('an image whose bytes are gone, or are others, is refused', async () => {
  const { json, images } = withoutImages(record);
  const [row] = images;
  expect(await withImages(json, async () => row)).toEqual(record);
  const error = { name: 'AttachmentIntegrityError', meta: { attachmentId: row?.id } };
  await expect(withImages(json, async () => undefined)).rejects.toMatchObject(error);
  const others = row && { ...row, bytes: Buffer.from('other') };
  await expect(withImages(json, async () => others)).rejects.toMatchObject(error);
});

// contract: 7.3-attachments-only
test('what a tool gave for programs is kept as it is, also where it looks like an image or the place of one', async () => {
  const details = [
    { type: 'image', mimeType: 'image/png', data: 'https://example.com/a.png' },
    { type: 'image', mimeType: 'image/png', attachment: 'a.png' },
  ];
  const given = { type: 'tool', message: { content: [{ type: 'text', text: '…' }], details } };
  const { json, images } = withoutImages(given);
  expect(images).toEqual([]);
  expect(await withImages(json, async () => undefined)).toEqual(given);
});

const image = { type: 'image', data: 'AAEC', mimeType: 'image/png' } as const;
const lines = (...ids: string[]) => ['<attachments>', ...ids, '</attachments>'].join('\n');
const line = `<image id="${attachmentId(image)}" mimeType="image/png" />`;

describe('images of a conversation', () => {
  // contract: 4.1-image-ids
  test('are named to the model after the text of their message, those of a user and those of a tool', async () => {
    const png = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
    const model = scriptedModel([{ toolCalls: [{ name: 'read', input: { path: 'a.png' } }] }, 'Seen.']);
    await using bench = await harnessBench({ model });
    await writeFile(join(bench.cwd, 'a.png'), png);
    const session = await bench.harness.session();
    await session.prompt('Look.', { images: [image, { ...image, mimeType: 'image/x-"<&>' }] });
    const [user, , tool] = model.requests[1]?.messages ?? [];
    expect(user?.content.slice(0, 2)).toEqual([
      { type: 'text', text: 'Look.' },
      { type: 'text', text: expect.stringMatching(/^<attachments>\n<image .*\n<image .*\n<\/attachments>$/) },
    ]);
    expect(user?.content.slice(2)).toMatchObject([image, { type: 'image' }]);
    expect(JSON.stringify(user?.content[1])).toContain(JSON.stringify(line).slice(1, -1));
    expect(JSON.stringify(user?.content[1])).toContain('image/x-&quot;&lt;&amp;&gt;');
    const read = { type: 'image', data: png.toString('base64'), mimeType: 'image/png' } as const;
    expect(tool?.content).toMatchObject([
      { type: 'text' },
      { type: 'text', text: lines(`<image id="${attachmentId(read)}" mimeType="image/png" />`) },
      read,
    ]);
    const [shown] = await session.history();
    expect(shown?.parts).toMatchObject([
      { type: 'text', text: 'Look.' },
      { type: 'file', id: attachmentId(image) },
      { type: 'file' },
    ]);
  });

  // contract: 7.3-attachments-fixed
  test('stay what they were, whatever the application does to its own', async () => {
    const model = scriptedModel(['Seen.', 'Again.']);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session();
    const own: { type: 'image'; data: string; mimeType: string } = { ...image };
    await session.prompt('Look.', { images: [own] });
    own.data = 'BBBB';
    await session.prompt('Again.');
    expect(model.requests[1]?.messages.slice(0, 1)).toEqual(model.requests[0]?.messages);
  });

  // contract: 7.3-attachments-fixed
  test('are refused where the store has another under that id, and the conversation goes on without them', async () => {
    const model = scriptedModel(['Done.']);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session();
    const { journal } = bench.harness.parts;
    const id = attachmentId(image);
    const other = { digest: 'other', json: '{}', bytes: Buffer.from('other') };
    journal.put({ kind: 'attachment', conversation: session.conversationId, id, ...other });
    await journal.flush();
    const error = await session.prompt('Look.', { images: [image] }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(AttachmentConflictError);
    expect(error).toMatchObject({ meta: { attachmentId: id } });
    await session.prompt('Go on.');
    expect(model.requests.map(({ messages }) => messages)).toEqual([
      [{ role: 'user', content: [{ type: 'text', text: 'Go on.' }] }],
    ]);
  });
});
