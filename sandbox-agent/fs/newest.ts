export interface Dated {
  path: string;
  modifiedMs: number;
}

/**
 * The newest of any number of files, and no more than `limit` of them in memory: a binary heap with the oldest on top,
 * which makes way for what is newer. The same time is told apart by the path, so that the outcome does not depend on
 * the order.
 */
export class Newest {
  readonly #limit: number;
  readonly #heap: Dated[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(file: Dated): void {
    const heap = this.#heap;
    if (heap.length < this.#limit) {
      heap.push(file);
      this.#rise(heap.length - 1);
      return;
    }
    const oldest = heap[0];
    if (oldest === undefined || newestFirst(file, oldest) > 0) return;
    heap[0] = file;
    this.#sink();
  }

  inOrder(): Dated[] {
    return this.#heap.toSorted(newestFirst);
  }

  #rise(at: number): void {
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!this.#isOlder(at, above)) return;
      this.#swap(at, above);
      at = above;
    }
  }

  #sink(): void {
    for (let at = 0; ; ) {
      let oldest = at;
      for (const below of [2 * at + 1, 2 * at + 2]) if (this.#isOlder(below, oldest)) oldest = below;
      if (oldest === at) return;
      this.#swap(at, oldest);
      at = oldest;
    }
  }

  #isOlder(one: number, other: number): boolean {
    const a = this.#heap[one];
    const b = this.#heap[other];
    return a !== undefined && b !== undefined && newestFirst(a, b) > 0;
  }

  #swap(one: number, other: number): void {
    const a = this.#heap[one];
    const b = this.#heap[other];
    if (a === undefined || b === undefined) return;
    this.#heap[one] = b;
    this.#heap[other] = a;
  }
}

function newestFirst(a: Dated, b: Dated): number {
  return b.modifiedMs - a.modifiedMs || (a.path < b.path ? -1 : Number(a.path > b.path));
}
