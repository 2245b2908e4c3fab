import { treeOrder } from '../../../src/protocol/checkpoint.ts';

interface Named {
  path: string;
}
type Sources = readonly AsyncIterable<Named>[];
type Found<All extends Sources> = {
  -readonly [Index in keyof All]: (All[Index] extends AsyncIterable<infer Entry> ? Entry : never) | undefined;
};

/**
 * Goes through trees side by side, each in the order of `treeOrder`: what they have at one path comes together. Only one
 * entry of each is held, and the next is not asked for before this one was taken care of.
 */
export async function* merged<const All extends Sources>(
  ...sources: All
): AsyncGenerator<[path: string, ...Found<All>], void> {
  const heads = sources.map((source) => new Head(source));
  try {
    for (;;) {
      for (const head of heads) await head.fill();
      const [first = ''] = heads.flatMap(({ order }) => order ?? []).sort();
      if (first === '') return;
      const entries = heads.map((head) => (head.order === first ? head.take() : undefined));
      const path = entries.find((entry) => entry !== undefined)?.path ?? '';
      yield [path, ...(entries as Found<All>)]; // one for each
    }
  } finally {
    for (const head of heads) await head.close();
  }
}

class Head {
  readonly #iterator: AsyncIterator<Named>;
  #entry: Named | undefined;
  #isDone = false;
  order: string | undefined;

  constructor(source: AsyncIterable<Named>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  async fill(): Promise<void> {
    if (this.#entry || this.#isDone) return;
    const { value, done } = await this.#iterator.next();
    this.#isDone = done ?? false;
    if (this.#isDone) return;
    this.#entry = value;
    this.order = treeOrder(value.path);
  }

  take(): Named | undefined {
    const entry = this.#entry;
    this.#entry = undefined;
    this.order = undefined;
    return entry;
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}
