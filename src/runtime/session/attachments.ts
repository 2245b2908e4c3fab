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

/** What has images of a record. What a tool gave for programs may look like one anywhere, and is none. */
interface Holder<Part> {
  type?: string;
  message?: { content: readonly Part[] };
  images?: readonly Part[];
}

/** The JSON of a record, and the images that are to be kept for it. */
export function withoutImages(record: Holder<{ type: string }>): {
  json: string;
  images: ({ id: string } & AttachmentRow)[];
} {
  const images: ({ id: string } & AttachmentRow)[] = [];
  const detached = mapped(record, (part) => {
    if (!isImage(part)) return part;
    const { mimeType } = part;
    const bytes = Buffer.from(part.data, 'base64');
    const digest = sha256(bytes);
    const id = idOf(mimeType, digest);
    ids.set(part, id);
    images.push({ id, digest, json: JSON.stringify({ mimeType, size: bytes.length }), bytes });
    return { type: 'image', mimeType, attachment: id } satisfies Attached;
  });
  return { json: JSON.stringify(detached), images };
}

/**
 * The record that a JSON is of.
 * @throws {AttachmentIntegrityError} the bytes of an image are not there, or are others
 */
export async function withImages(
  json: string,
  attachment: (id: string) => Promise<AttachmentRow | undefined>,
): Promise<unknown> {
  const record: Holder<{ type: string }> = JSON.parse(json); // it was written here
  for (const part of [...(record.message?.content ?? []), ...(record.images ?? [])]) {
    if (!isAttached(part)) continue;
    const row = await attachment(part.attachment);
    if (!row || idOf(part.mimeType, sha256(row.bytes)) !== part.attachment) {
      throw new AttachmentIntegrityError({ attachmentId: part.attachment });
    }
    ids.set(Object.assign(part, { data: Buffer.from(row.bytes).toString('base64') }), part.attachment);
    Reflect.deleteProperty(part, 'attachment');
  }
  return record;
}

function mapped<Part>(record: Holder<Part>, change: (part: Part) => object): object {
  const { message, images } = record;
  return {
    ...record,
    ...(message && { message: { ...message, content: message.content.map(change) } }),
    ...(images && { images: images.map(change) }),
  };
}

function isImage(part: { type: string }): part is ImagePart {
  return part.type === 'image';
}

function isAttached(part: { type: string }): part is Attached {
  return part.type === 'image';
}

function idOf(mimeType: string, digest: string): string {
  return `att_${sha256(Buffer.from(`${mimeType}\n${digest}`)).slice(0, 32)}`;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
