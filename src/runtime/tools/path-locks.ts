/** Lets the holders of one path through one after the other, in the order of their requests. */
export class PathLocks {
  readonly #last = new Map<string, Promise<unknown>>();

  async hold<T>(path: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(path);
    const mine = (async () => {
      await before?.catch(() => {}); // its failure is its caller's
      return work();
    })();
    this.#last.set(path, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(path) === mine) this.#last.delete(path);
    }
  }
}
