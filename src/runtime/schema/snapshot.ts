import { pathText } from './path.ts';

/** What JSON can hold. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

const maxLevels = 1_000;
/** Bytes of JSON that a value may have unless a runtime says otherwise. */
export const defaultMaxValueBytes = 16 * 1024 * 1024;

/** Why a value is not JSON: where, and what was found there. Callers make the error of their feature of it. */
export class NotJson extends Error {
  readonly path: string;
  readonly kind: string;
  constructor(path: string, kind: string, options?: ErrorOptions) {
    super(`${path} is ${kind}, which can't be kept as JSON`, options);
    this.path = path;
    this.kind = kind;
  }
}

/**
 * A detached deep copy of a JSON value. `JSON.stringify` is not used because it changes what it can't write (a Date, NaN,
 * a Map) without a word, and calls `toJSON`.
 * @param root - the name of the value, in the path of the error: `output`, say
 * @param maxBytes - of JSON
 * @throws {NotJson} anything in it is not JSON, or it is too deep or too large
 */
export function jsonSnapshot(value: unknown, root: string, maxBytes = defaultMaxValueBytes): JsonValue {
  const path: PropertyKey[] = [];
  const parents = new Set<object>();
  let bytes = 0;

  function refuse(kind: string, options?: ErrorOptions): never {
    throw new NotJson(pathText(root, path), kind, options);
  }
  function count(added: number): void {
    bytes += added;
    if (bytes > maxBytes) throw new NotJson(root, `more than ${maxBytes} bytes of JSON`);
  }
  function read(holder: object, key: PropertyKey): unknown {
    try {
      return Reflect.get(holder, key); // once: a getter may give something else the next time
    } catch (cause) {
      return refuse('a getter that throws', { cause });
    }
  }

  function copy(found: unknown): JsonValue {
    switch (typeof found) {
      case 'boolean':
        count(5);
        return found;
      case 'string':
        count(Buffer.byteLength(JSON.stringify(found)));
        return found;
      case 'number':
        if (!Number.isFinite(found)) return refuse(String(found));
        count(String(found).length);
        return found === 0 ? 0 : found; // -0 becomes 0, as in JSON
      case 'object':
        if (found === null) {
          count(4);
          return null;
        }
        return copyObject(found);
      default:
        return refuse(found === undefined ? 'undefined' : `a ${typeof found}`);
    }
  }

  function copyObject(found: object): JsonValue {
    if (parents.has(found)) return refuse('a cycle');
    if (parents.size >= maxLevels) return refuse(`nested deeper than ${maxLevels} levels`);
    parents.add(found);
    const made = Array.isArray(found) ? copyArray(found) : copyRecord(found);
    parents.delete(found);
    return made;
  }

  function copyArray(found: unknown[]): JsonValue[] {
    const made: JsonValue[] = [];
    const length = found.length;
    count(2 + length);
    for (let i = 0; i < length; i++) {
      path.push(i);
      if (!(i in found)) refuse('a hole in an array');
      made.push(copy(read(found, i)));
      path.pop();
    }
    return made;
  }

  function copyRecord(found: object): JsonValue {
    if (!isPlainObject(found)) return refuse(kindOf(found));
    const made: { [key: string]: JsonValue } = {};
    count(2);
    for (const key of Object.keys(found)) {
      path.push(key);
      const item = read(found, key);
      if (item !== undefined) {
        count(Buffer.byteLength(JSON.stringify(key)) + 2);
        setOwn(made, key, copy(item));
      }
      path.pop();
    }
    return made;
  }

  return copy(value);
}

/** Sets a property also when it is called `__proto__`, which an assignment would take for the prototype. */
export function setOwn(target: object, key: string, value: unknown): void {
  if (key === '__proto__') {
    Object.defineProperty(target, key, { value, enumerable: true, writable: true, configurable: true });
  } else {
    (target as Record<string, unknown>)[key] = value; // any object takes a property
  }
}

/** Whether the prototype is null or the `Object.prototype` of any realm. */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null || prototype === Object.prototype) return true;
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, 'isPrototypeOf');
}

function kindOf(value: object): string {
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  const name = tag === 'Object' ? (value.constructor?.name ?? 'unnamed class') : tag;
  return `an instance of ${name || 'an unnamed class'}`;
}

/** The JSON of a value with the keys of every object sorted: equal values give equal texts. `indent` is for readers. */
export function canonicalJson(value: JsonValue | undefined, indent = 0): string {
  const sorted = (_key: string, item: unknown) => {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
    const record: Record<string, unknown> = Object.create(null);
    for (const key of Object.keys(item).sort()) record[key] = (item as Record<string, unknown>)[key];
    return record;
  };
  return JSON.stringify(value ?? null, sorted, indent);
}
