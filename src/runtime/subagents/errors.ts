import { BerthError } from '../../errors.ts';

/** A task names a subagent that the agent does not have. */
export class SubagentNotDeclaredError extends BerthError<{ name: string; known: string[] }> {
  static {
    SubagentNotDeclaredError.prototype.name = 'SubagentNotDeclaredError';
  }
  readonly code = 'subagent_not_declared';
  constructor(meta: { name: string; known: string[] }, options?: ErrorOptions) {
    const known = meta.known.length === 0 ? 'it has none' : `it has ${meta.known.join(', ')}`;
    super(`The agent has no subagent ${meta.name} (${known}).`, meta, options);
  }
}

/** A task names an image that is not in what the calling session sends to its model. The task was not started. */
export class AttachmentNotAvailableError extends BerthError<{ attachmentId: string }> {
  static {
    AttachmentNotAvailableError.prototype.name = 'AttachmentNotAvailableError';
  }
  readonly code = 'attachment_not_available';
  constructor(meta: { attachmentId: string }, options?: ErrorOptions) {
    super(
      `There is no image ${meta.attachmentId} in what the model sees: name one that stands in <attachments>, or say in the prompt what is on it.`,
      meta,
      options,
    );
  }
}
