const rightBracket = 0x1d;
const presses = 3;
const withinMs = 1_000;

/**
 * Ctrl-] three times within a second, as in systemd-nspawn: no program is used so. What is typed passes on all the same,
 * and at once: a key that is held back until the next one is a key that seems dead.
 */
export class DetachKey {
  readonly pressed: Promise<void>;
  #press = () => {};
  #times: number[] = [];

  constructor() {
    this.pressed = new Promise((resolve) => {
      this.#press = resolve;
    });
  }

  see(typed: Uint8Array): void {
    for (const byte of typed) {
      this.#times = byte === rightBracket ? [...this.#times, performance.now()].slice(-presses) : [];
      const [first = 0, , last = Number.POSITIVE_INFINITY] = this.#times;
      if (last - first <= withinMs) this.#press();
    }
  }
}
