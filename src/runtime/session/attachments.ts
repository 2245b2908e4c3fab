import { createHash } from 'node:crypto';
import type { AttachmentRow } from '../../journal/store.ts';
import type { ImagePart } from '../model/model.ts';
import { AttachmentIntegrityError } from './errors.ts';

/** Stands in a record where an image is, whose bytes are kept once, beside the records. */
interface Attached {
  type: 'image';
  mimeType: string;
  attachment: string;
}

/** The JSON of a record, and the images that are to be kept for it. */
export function withoutImages(record: object): { json: string; images: ({ id: string } & AttachmentRow)[] } {
  const images: ({ id: string } & AttachmentRow)[] = [];
  const json = JSON.stringify(record, (_key, value: unknown) => {
    if (!isImage(value)) return value;
    const { mimeType } = value;
    const bytes = Buffer.from(value.data, 'base64');
    const digest = sha256(bytes);
    const id = `att_${sha256(Buffer.from(`${mimeType}\n${digest}`)).slice(0, 32)}`;
    images.push({ id, digest, json: JSON.stringify({ mimeType, size: bytes.length }), bytes });
    return { type: 'image', mimeType, attachment: id } satisfies Attached;
  });
  return { json, images };
}

/**
 * The record that a JSON is of.
 * @throws {AttachmentIntegrityError} the bytes of an image are not there, or are others
 */
export async function withImages(
  json: string,
  attachment: (id: string) => Promise<AttachmentRow | undefined>,
): Promise<unknown> {
  const attached: Attached[] = [];
  const record: unknown = JSON.parse(json, (_key, value: unknown) => {
    if (isAttached(value)) attached.push(value);
    return value;
  });
  for (const part of attached) {
    const row = await attachment(part.attachment);
    if (!row || sha256(row.bytes) !== row.digest) throw new AttachmentIntegrityError({ attachmentId: part.attachment });
    Object.assign(part, { data: Buffer.from(row.bytes).toString('base64') });
    Reflect.deleteProperty(part, 'attachment');
  }
  return record;
}

function isImage(value: unknown): value is ImagePart {
  return isPart(value) && typeof value.data === 'string';
}

function isAttached(value: unknown): value is Attached {
  return isPart(value) && typeof value.attachment === 'string';
}

function isPart(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' && value !== null && 'type' in value && value.type === 'image' && 'mimeType' in value
  );
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
