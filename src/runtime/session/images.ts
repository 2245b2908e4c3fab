import { InvalidRequestError } from '../errors.ts';
import type { ImagePart } from '../model/model.ts';

const maxBytes = 14 * 1024 * 1024;

/** @throws {InvalidRequestError} what is given as images is none, or one is too large */
export function checkImages(images: readonly ImagePart[]): void {
  const refuse = (reason: string) => {
    throw new InvalidRequestError(reason);
  };
  if (!Array.isArray(images)) refuse('images must be an array');
  for (const image of images) {
    const { type, data, mimeType } = Object(image) as ImagePart; // any value: its fields are looked at here
    if (type !== 'image' || typeof data !== 'string' || typeof mimeType !== 'string') {
      refuse("an image is { type: 'image', data, mimeType }, with data as base64");
    }
    // Else every later request of the conversation would be refused by the provider.
    if (!mimeType.startsWith('image/')) refuse(`mimeType of an image is image/png, say, not ${mimeType}`);
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(data)) refuse('data of an image is base64 without spaces, and no data: URL');
    if (Buffer.byteLength(data, 'base64') > maxBytes) refuse('an image has more than 14 MB');
  }
}
