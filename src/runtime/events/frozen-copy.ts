import { setOwn } from '../schema/snapshot.ts';
import { IMAGE_DATA_OMITTED } from './event.ts';

/** Every copy that was made: it can't change, so it is its own copy. */
const copies = new WeakSet<object>();
const maxLevels = 1_100; // JSON values of authors have at most 1,000

/**
 * A detached, deeply frozen copy for events: JSON whatever the value is, and never an exception. An error becomes
 * `{ name, message }`, what else JSON has no form for its `String()`. Bytes of images are left out. A copy is given back
 * as it is.
 * @param options.stacks - errors keep their stack. Default: false
 */
export function frozenCopy(value: unknown, { stacks = false }: { stacks?: boolean } = {}): unknown {
  const parents = new Set<object>();

  function copy(found: unknown): unknown {
    if (found === undefined || found === null) return null;
    if (typeof found === 'string' || typeof found === 'boolean' || Number.isFinite(found)) return found;
    if (typeof found !== 'object') return asText(found);
    if (copies.has(found)) return found;
    if (parents.has(found)) return '<cycle>';
    if (parents.size >= maxLevels) return '<too deep>';
    parents.add(found);
    try {
      return copyObject(found);
    } catch {
      return '<not readable>'; // a getter or a proxy that throws
    } finally {
      parents.delete(found);
    }
  }

  function copyObject(found: object): unknown {
    if (Array.isArray(found)) return made(Array.from(found, copy));
    if (found instanceof Error) {
      return copyFields({ name: found.name, message: found.message, ...(stacks && { stack: found.stack }) });
    }
    if (hidesItsContent(found)) return asText(found);
    const isImage = 'type' in found && found.type === 'image' && 'mimeType' in found && 'data' in found;
    return copyFields(isImage ? { ...found, data: IMAGE_DATA_OMITTED } : found);
  }

  function copyFields(found: object): object {
    const fields = {};
    for (const [key, item] of Object.entries(found)) if (item !== undefined) setOwn(fields, key, copy(item));
    return made(fields);
  }

  function made(copied: object): object {
    copies.add(copied);
    return Object.freeze(copied);
  }

  return copy(value);
}

/** A Date, a Map, a promise, bytes: what they are is not in their fields. */
function hidesItsContent(value: object): boolean {
  return ArrayBuffer.isView(value) || Object.prototype.toString.call(value) !== '[object Object]';
}

function asText(value: unknown): string {
  try {
    return ArrayBuffer.isView(value) ? `<${value.byteLength} bytes>` : String(value);
  } catch {
    return '<not readable>';
  }
}
