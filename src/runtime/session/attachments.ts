import { createHash } from 'node:crypto';
import type { AttachmentRow } from '../../journal/store.ts';
import type { ImagePart, Message } from '../model/model.ts';
import { AttachmentIntegrityError } from './errors.ts';
import { escaped } from './signal.ts';

/** Stands in a record where an image is, whose bytes are kept once, beside the records. */
interface Attached {
  type: 'image';
  mimeType: string;
  attachment: string;
}

/** Of images in conversations, which never change: to make one, all of the bytes are gone through. */
const ids = new WeakMap<ImagePart, string>();

/** What an image is known by in a conversation: the same bytes and type have the same id. */
export function attachmentId(image: ImagePart): string {
  const known = ids.get(image);
  if (known !== undefined) return known;
  const id = idOf(image.mimeType, sha256(Buffer.from(image.data, 'base64')));
  ids.set(image, id);
  return id;
}

/** A message as the model gets it: after its text it has the ids of its images, by which `task` passes them on. */
export function withImageIds(message: Message): Message {
  if (message.role === 'assistant') return message;
  const lines = message.content.flatMap((part) =>
    part.type === 'image' ? [`<image id="${attachmentId(part)}" mimeType="${escaped(part.mimeType)}" />`] : [],
  );
  if (lines.length === 0) return message;
  const text = ['<attachments>', ...lines, '</attachments>'].join('\n');
  const end = message.content.findLastIndex(({ type }) => type === 'text') + 1;
  return { ...message, content: message.content.toSpliced(end, 0, { type: 'text', text }) };
}

/** The JSON of a record, and the images that are to be kept for it. */
export function withoutImages(record: object): { json: string; images: ({ id: string } & AttachmentRow)[] } {
  const images: ({ id: string } & AttachmentRow)[] = [];
  const json = JSON.stringify(record, (_key, value: unknown) => {
    if (!isImage(value)) return value;
    const { mimeType } = value;
    const bytes = Buffer.from(value.data, 'base64');
    const digest = sha256(bytes);
    const id = idOf(mimeType, digest);
    ids.set(value, id);
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
    if (!row || idOf(part.mimeType, sha256(row.bytes)) !== part.attachment) {
      throw new AttachmentIntegrityError({ attachmentId: part.attachment });
    }
    ids.set(Object.assign(part, { data: Buffer.from(row.bytes).toString('base64') }), part.attachment);
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

function idOf(mimeType: string, digest: string): string {
  return `att_${sha256(Buffer.from(`${mimeType}\n${digest}`)).slice(0, 32)}`;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
