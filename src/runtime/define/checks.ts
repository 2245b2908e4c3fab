import type { Issue } from '../schema/issue.ts';
import { pathText } from '../schema/path.ts';
import { isPlainObject } from '../schema/snapshot.ts';
import { DefinitionError, type DefinitionIssue } from './errors.ts';

/** Fields by name. */
export interface Fields {
  known: readonly string[];
  /** What is said about a field that users of other versions or libraries may write. */
  advice?: Readonly<Record<string, string>>;
}

/** Gathers everything that is wrong with one definition. */
export class Problems {
  readonly issues: DefinitionIssue[] = [];
  readonly #definition: string;

  /** @param definition - what is defined, as the start of a sentence: `The action` */
  constructor(definition: string) {
    this.#definition = definition;
  }

  add(path: string, message: string): void {
    this.issues.push({ path, message });
  }

  /** Adds the issues of a schema; `root` is the field that holds it. */
  addSchema(root: string, issues: Issue[]): void {
    for (const { path, message } of issues) this.add(pathText(root, path ?? []), message);
  }

  throwIfAny(): void {
    if (this.issues.length > 0) throw new DefinitionError(this.#definition, this.issues);
  }

  /** The value as a record, with its unknown fields refused. What is no plain object ends the check. */
  record(value: unknown, path: string, fields: Fields): Record<string, unknown> {
    if (typeof value !== 'object' || value === null || !isPlainObject(value)) {
      this.add(path, 'must be a plain object');
      return {};
    }
    for (const key of Object.keys(value)) {
      if (fields.known.includes(key)) continue;
      const advice = fields.advice?.[key] ?? `is not a known field (known: ${fields.known.join(', ')})`;
      this.add(pathText(path, [key]), advice);
    }
    return value as Record<string, unknown>; // a plain object
  }

  /** The fields of a record whose names may be any; what is no plain object is a problem and has none. */
  entries(value: unknown, path: string): [name: string, field: unknown][] {
    if (typeof value === 'object' && value !== null && isPlainObject(value)) return Object.entries(value);
    if (value !== undefined) this.add(path, 'must be a plain object');
    return [];
  }

  name(value: unknown, path: string, pattern: RegExp): void {
    if (typeof value !== 'string' || !pattern.test(value)) {
      this.add(path, `must be a name of 1 to 64 characters that matches ${pattern.source}`);
    }
  }

  text(value: unknown, path: string): void {
    if (typeof value !== 'string' || value.trim() === '') this.add(path, 'must be a string that is not blank');
  }

  optional(value: unknown, path: string, check: (value: unknown, path: string) => void): void {
    if (value !== undefined) check(value, path);
  }

  positiveInteger(value: unknown, path: string): void {
    if (!Number.isSafeInteger(value) || Number(value) <= 0) this.add(path, 'must be a whole number over 0');
  }

  boolean(value: unknown, path: string): void {
    if (typeof value !== 'boolean') this.add(path, 'must be true or false');
  }

  function(value: unknown, path: string): void {
    if (typeof value !== 'function') this.add(path, 'must be a function');
  }

  oneOf(value: unknown, path: string, values: readonly unknown[]): void {
    if (!values.includes(value)) this.add(path, `must be one of ${values.join(', ')}`);
  }

  /** The items of an array; what is no array is a problem and has none. */
  array(value: unknown, path: string): unknown[] {
    if (Array.isArray(value)) return value;
    if (value !== undefined) this.add(path, 'must be an array');
    return [];
  }

  uniqueNames(items: unknown[], path: string): void {
    const seen = new Set<unknown>();
    for (const [i, item] of items.entries()) {
      const name = (item as { name?: unknown } | null | undefined)?.name; // any item: only its name is looked at
      if (typeof name !== 'string') continue;
      if (seen.has(name)) this.add(`${path}[${i}].name`, `${name} is already the name of another item`);
      seen.add(name);
    }
  }
}
