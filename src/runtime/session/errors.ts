import { BerthError } from '../../errors.ts';

/** The bytes of an image of a conversation are gone from the store, or are others than were stored. */
export class AttachmentIntegrityError extends BerthError<{ attachmentId: string }> {
  static {
    AttachmentIntegrityError.prototype.name = 'AttachmentIntegrityError';
  }
  readonly code = 'attachment_integrity';
  constructor(meta: { attachmentId: string }, options?: ErrorOptions) {
    super(
      `The image ${meta.attachmentId} is missing or damaged in the store: restore that from a copy.`,
      meta,
      options,
    );
  }
}
