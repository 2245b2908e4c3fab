import { setOwn } from '../schema/snapshot.ts';

const MASK = '<masked>';

/** What is shorter may also stand where it is no secret, as `postgres` does. */
const minCharacters = 12;

/** How variables and headers are named that hold secrets. */
export const secretName = /(KEY|TOKEN|SECRET|PASSWORD|AUTHORIZATION)$/i;

/** Knows secrets, and replaces them in what is told and kept. It also masks those that its parent knows. */
export class Masker {
  readonly #parent: Masker | undefined;
  /** Each as it is, and as it is written in JSON and in JSON within JSON. */
  readonly #forms = new Set<string>();

  constructor(parent?: Masker) {
    this.#parent = parent;
  }

  /** Those of fewer than 12 characters are left as they are. */
  add(...secrets: readonly string[]): void {
    for (const secret of secrets.map((given) => given.trim())) {
      if (secret.length < minCharacters) continue;
      const inJson = escaped(secret);
      for (const form of [secret, inJson, escaped(inJson)]) this.#forms.add(form);
    }
  }

  /** Adds the values of those variables or headers that are named as secrets. */
  addNamed(fields: Readonly<Record<string, string | undefined>> = {}): void {
    for (const [name, value = ''] of Object.entries(fields)) {
      if (secretName.test(name)) this.add(value.replace(/^(bearer|basic) /i, ''));
    }
  }

  text(text: string): string {
    let masked = '';
    let end = 0;
    for (const found of this.#find(text)) {
      masked += text.slice(end, found.start) + MASK;
      end = found.end;
    }
    return masked + text.slice(end);
  }

  /** Masks all texts in a JSON value, names of fields too. What has none is given back as it is, the rest frozen. */
  value<Value>(value: Value): Value {
    return this.#knowsNone ? value : (this.#masked(value) as Value); // of the same shape
  }

  /** Masks the texts in the JSON of a value. */
  json(json: string): string {
    if (this.#knowsNone) return json;
    const value: unknown = JSON.parse(json);
    const masked = this.value(value);
    return masked === value ? json : JSON.stringify(masked);
  }

  /** Parts a text that goes on: what can be told of it, masked, and the end of it, which may be the beginning of a secret. */
  split(text: string): [told: string, rest: string] {
    let cut = text.length;
    for (const form of this.#known()) {
      for (let start = Math.max(0, text.length - form.length + 1); start < cut; start++) {
        if (form.startsWith(text.slice(start))) cut = start;
      }
    }
    const across = this.#find(text).find(({ start, end }) => start < cut && cut < end);
    if (across) cut = across.start; // two secrets overlap
    return [this.text(text.slice(0, cut)), text.slice(cut)];
  }

  get #knowsNone(): boolean {
    return this.#known().next().done === true;
  }

  *#known(): Generator<string, void, undefined> {
    yield* this.#forms;
    if (this.#parent) yield* this.#parent.#known();
  }

  /** Where secrets stand, in order; those that overlap are one. */
  #find(text: string): { start: number; end: number }[] {
    const all: { start: number; end: number }[] = [];
    for (const form of this.#known()) {
      for (let start = text.indexOf(form); start !== -1; start = text.indexOf(form, start + 1)) {
        all.push({ start, end: start + form.length });
      }
    }
    const found: { start: number; end: number }[] = [];
    for (const { start, end } of all.sort((a, b) => a.start - b.start)) {
      const last = found.at(-1);
      if (last && start < last.end) last.end = Math.max(last.end, end);
      else found.push({ start, end });
    }
    return found;
  }

  #masked(value: unknown): unknown {
    if (typeof value === 'string') return this.text(value);
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) {
      const items = value.map((item) => this.#masked(item));
      return items.every((item, i) => item === value[i]) ? value : Object.freeze(items);
    }
    const fields = {};
    let isSame = true;
    for (const [name, field] of Object.entries(value)) {
      const masked = [this.text(name), this.#masked(field)] as const;
      isSame &&= masked[0] === name && masked[1] === field;
      setOwn(fields, ...masked);
    }
    return isSame ? value : Object.freeze(fields);
  }
}

/** As it stands between the quotes of a JSON text. */
function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
