import { BerthError } from '../../errors.ts';

/** One thing that is wrong with a definition. */
export interface DefinitionIssue {
  /** Where in the definition, as in `tools[0].name`; empty when it is about the whole. */
  path: string;
  /** What it must be, as the end of a sentence that begins with `path`. */
  message: string;
}

/** A definition can't be used as it is. `issues` has everything that is wrong with it, not only the first. */
export class DefinitionError extends BerthError<{ issues: DefinitionIssue[] }> {
  static {
    DefinitionError.prototype.name = 'DefinitionError';
  }
  readonly code = 'invalid_definition';
  constructor(definition: string, issues: DefinitionIssue[], options?: ErrorOptions) {
    const list = issues.map(({ path, message }) => (path === '' ? message : `${path} ${message}`)).join('; ');
    super(`${definition} is not valid: ${list}.`, { issues }, options);
  }
  /** All of them; the same as `meta.issues`. */
  get issues(): DefinitionIssue[] {
    return this.meta.issues;
  }
}

/** Two tools that a model would see have one name, or a tool has a name that Berth keeps for itself. */
export class ToolNameConflictError extends BerthError<{
  name: string;
  conflict: 'reserved' | 'duplicate';
  sources: string[];
}> {
  static {
    ToolNameConflictError.prototype.name = 'ToolNameConflictError';
  }
  readonly code = 'tool_name_conflict';
  constructor(meta: { name: string; conflict: 'reserved' | 'duplicate'; sources: string[] }, options?: ErrorOptions) {
    const where = meta.sources.join(' and ');
    super(
      meta.conflict === 'reserved'
        ? `The tool name ${meta.name} (${where}) is reserved; choose another.`
        : `The tool name ${meta.name} is used twice (${where}); rename one of them.`,
      meta,
      options,
    );
  }
}
