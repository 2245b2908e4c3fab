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

/** Another image stands in the store under the id of this one: one of the two is damaged. The message was not added. */
export class AttachmentConflictError extends BerthError<{ attachmentId: string }> {
  static {
    AttachmentConflictError.prototype.name = 'AttachmentConflictError';
  }
  readonly code = 'attachment_conflict';
  constructor(meta: { attachmentId: string }, options?: ErrorOptions) {
    super(
      `The store has another image under the id ${meta.attachmentId}, and what was stored never changes: restore the store from a copy.`,
      meta,
      options,
    );
  }
}
