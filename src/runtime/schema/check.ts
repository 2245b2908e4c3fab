import type { Issue } from './issue.ts';
import type { Schema } from './parse.ts';

/** What the walk looks at in a node of a Valibot schema; every field is checked before it is used. */
interface Node {
  kind: unknown;
  type: unknown;
  async: unknown;
  entries?: unknown;
  rest?: unknown;
  item?: unknown;
  items?: unknown;
  options?: unknown;
  wrapped?: unknown;
  key?: unknown;
  value?: unknown;
  pipe?: unknown;
  getter?: unknown;
  literal?: unknown;
}

const objectTypes = new Set(['object', 'strict_object', 'loose_object', 'object_with_rest']);

/** Types of nodes that accept nothing that JSON can write down. */
const notJsonTypes = new Set([
  'bigint',
  'blob',
  'date',
  'file',
  'function',
  'instance',
  'map',
  'nan',
  'promise',
  'set',
  'symbol',
  'undefined',
  'void',
]);

/** Whether a value is a Valibot schema, by its Standard Schema properties: also one of another copy of Valibot. */
function isSchema(value: unknown): value is Schema {
  if (typeof value !== 'object' || value === null) return false;
  const { kind, '~standard': standard } = value as {
    kind?: unknown;
    '~standard'?: { version?: unknown; vendor?: unknown };
  };
  return kind === 'schema' && standard?.version === 1 && standard.vendor === 'valibot';
}

/** What is wrong with a schema for output: it must be a Valibot schema that is synchronous all the way down. */
export function outputSchemaIssues(value: unknown): Issue[] {
  if (!isSchema(value)) return [{ message: 'must be a Valibot schema' }];
  return walk(value, { jsonOnly: false });
}

/** What is wrong with a schema that a model fills in: as for output, and each node of its input side can be JSON. */
export function jsonSchemaIssues(value: unknown): Issue[] {
  if (!isSchema(value)) return [{ message: 'must be a Valibot schema' }];
  return walk(value, { jsonOnly: true });
}

/** What is wrong with the schema of an input: as `jsonSchemaIssues`, and its top level is an object schema. */
export function inputSchemaIssues(value: unknown): Issue[] {
  if (!isSchema(value)) return [{ message: 'must be a Valibot schema' }];
  if (!isObjectSchema(value)) {
    const allowed = 'object, strictObject, looseObject or objectWithRest, also as the first item of a pipe';
    return [{ message: `must be an object schema at the top (${allowed}), not ${value.type}` }];
  }
  return walk(value, { jsonOnly: true });
}

export function isObjectSchema(schema: Schema): boolean {
  return objectTypes.has(schema.type); // a pipe has the type of its first item
}

function walk(schema: Schema, { jsonOnly }: { jsonOnly: boolean }): Issue[] {
  const issues: Issue[] = [];
  const seen = { input: new Set<unknown>(), output: new Set<unknown>() }; // `lazy` makes cycles

  /** `inputSide` is false behind a transform: what is there is made by code, not by the caller. */
  function visit(value: unknown, path: PropertyKey[], inputSide: boolean): void {
    const seenHere = inputSide ? seen.input : seen.output;
    if (typeof value !== 'object' || value === null || seenHere.has(value)) return;
    seenHere.add(value);
    const node = value as Node; // every field is `unknown`
    if (node.async === true) {
      issues.push({ message: `is asynchronous (${String(node.type)}), which is not supported`, path });
      return;
    }
    if (node.kind !== 'schema') return;
    if (Array.isArray(node.pipe)) {
      const [first, ...rest] = node.pipe;
      visit(first, path, inputSide);
      for (const item of rest) visit(item, path, false);
      return;
    }
    if (jsonOnly && inputSide) {
      const message = notJson(node);
      if (message !== undefined) issues.push({ message, path });
    }
    if (typeof node.entries === 'object' && node.entries !== null) {
      for (const [key, entry] of Object.entries(node.entries)) visit(entry, [...path, key], inputSide);
    }
    if (Array.isArray(node.items)) for (const [i, item] of node.items.entries()) visit(item, [...path, i], inputSide);
    if (Array.isArray(node.options)) for (const option of node.options) visit(option, path, inputSide);
    for (const inner of [node.item, node.rest, node.value]) visit(inner, [...path, '*'], inputSide);
    visit(node.key, path, inputSide);
    visit(node.wrapped, path, inputSide);
    if (typeof node.getter === 'function' && !seenHere.has(node.getter)) {
      seenHere.add(node.getter); // a getter may make a new schema at each call
      visit(lazySchema(node.getter), path, inputSide);
    }
  }

  visit(schema, [], true);
  return issues;
}

/** What is wrong with a node for who writes JSON: it accepts nothing, or something that JSON can't hold. */
function notJson({ type, literal, options }: Node): string | undefined {
  if (type === 'never') return 'accepts nothing';
  if (typeof type === 'string' && notJsonTypes.has(type)) return `accepts ${type}, which JSON can't hold`;
  if (type === 'literal') return notJsonChoice([literal]);
  return (type === 'picklist' || type === 'enum') && Array.isArray(options) ? notJsonChoice(options) : undefined;
}

function notJsonChoice(values: unknown[]): string | undefined {
  if (values.length === 0) return 'accepts nothing';
  const at = values.findIndex((value) => !isJsonScalar(value));
  return at === -1 ? undefined : `accepts the ${typeof values[at]} ${String(values[at])}, which JSON can't hold`;
}

function isJsonScalar(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value);
}

/** A getter that depends on its input can't be looked through here; it is then checked when a value is parsed. */
function lazySchema(getter: unknown): unknown {
  try {
    return (getter as (input: unknown) => unknown)(undefined); // the caller has seen that it is a function
  } catch {
    return undefined;
  }
}
