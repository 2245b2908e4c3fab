import { expect, test } from 'vitest';
import { withImages, withoutImages } from '../../../src/runtime/session/attachments.ts';

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
