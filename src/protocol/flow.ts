import { WireProtocolError } from './errors.ts';
import { limits } from './limits.ts';

/**
 * What one side of a stream may still send. Both sides start with a full window, so that a small stream needs no grant.
 */
export class SendWindow {
  #available: number = limits.window;
  #waiting: (() => void) | undefined;

  get available(): number {
    return this.#available;
  }

  take(bytes: number): void {
    this.#available -= bytes;
  }

  /** @throws {WireProtocolError} the receiver granted more than a window */
  grant(bytes: number): void {
    this.#available += bytes;
    if (this.#available > limits.window) throw new WireProtocolError('more was granted than a window holds');
    this.wake();
  }

  /** Ends a wait, so that the waiter looks again at what is available and whether the stream is still open. */
  wake(): void {
    this.#waiting?.();
    this.#waiting = undefined;
  }

  /** Resolves at the next grant or `wake`. One waiter at a time: a stream has one writer. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }
}

/** What one side of a stream has received and not yet read. Reading gives grants, a quarter of a window at a time. */
export class ReceiveWindow {
  #unread = 0;
  #ungranted = 0;

  /** @throws {WireProtocolError} the sender sent more than it was granted */
  received(bytes: number): void {
    this.#unread += bytes;
    if (this.#unread + this.#ungranted > limits.window) throw new WireProtocolError('a stream sent more than it may');
  }

  read(bytes: number): void {
    this.#unread -= bytes;
    this.#ungranted += bytes;
  }

  /** @returns the bytes to grant now, 0 for none */
  takeGrant(): number {
    if (this.#ungranted < limits.window / 4) return 0;
    const grant = this.#ungranted;
    this.#ungranted = 0;
    return grant;
  }
}
