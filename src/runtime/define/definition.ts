type Kind = 'action' | 'agent' | 'skill' | 'tool' | 'workflow';

const key = Symbol.for('berth.definitions');

/**
 * Every definition of this process, whichever copy of the package made it. By identity: a spread copy or a look-alike
 * is not in it.
 */
const definitions: WeakMap<object, Kind> = shared();

function shared(): WeakMap<object, Kind> {
  const holder = globalThis as { [key]?: WeakMap<object, Kind> }; // the key is ours: nothing else is kept under it
  holder[key] ??= new WeakMap();
  return holder[key];
}

/** Freezes a definition and makes it known as one. */
export function defined<Definition extends object>(kind: Kind, definition: Definition): Readonly<Definition> {
  definitions.set(definition, kind);
  return Object.freeze(definition);
}

export function isDefined(kind: Kind, value: unknown): boolean {
  return typeof value === 'object' && value !== null && definitions.get(value) === kind;
}
