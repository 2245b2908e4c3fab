import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { WebSocket } from 'ws';
import { encodeFrame, type Frame } from '../../src/protocol/frame.ts';
import { frameHeaderBytes, limits } from '../../src/protocol/limits.ts';

/** Says something else than what an honest side of the wire would say; `at` counts what that says, from 0. */
export type Lie = (honest: Frame, at: number, wire: LyingWire) => Promise<void> | void;

/** One connection. */
export interface LyingWire {
  say(frame: Frame): void;
  /** A WebSocket message. */
  send(message: Uint8Array | string): void;
  ping(): void;
  /** Bytes beneath the WebSocket. */
  raw(bytes: Uint8Array): void;
  /** Resolves when the other side reads on; `false`: it has closed the connection. */
  drained(): Promise<boolean>;
  /** Resolves when the other side grants so many bytes more of a stream, or wants no more of it; `false`: it has closed the connection. */
  granted(stream: number, bytes: number): Promise<boolean>;
  /** Reads nothing any more. */
  deafen(): void;
  /** Breaks the transport; to a host that comes back with it, this is said. */
  break(rejoining: Rejoining): void;
  close(): void;
}

export interface Rejoining {
  answer: 'resumed' | 'unknown_connection' | 'refused' | 'welcome';
  /** On the number of frames that it says it has. */
  shift: number;
  /** How often it breaks again as soon as it is joined. */
  times: number;
}

/** Of a frame, whatever follows. */
export function frameHeader(kind: number, stream: number, length: number): Buffer {
  const header = Buffer.alloc(frameHeaderBytes);
  header.writeUInt8(kind, 0);
  header.writeUInt32BE(stream, 1);
  header.writeUInt32BE(length, 5);
  return header;
}

/**
 * A wire on which anything can be said.
 * @param onBreak - is told before the transport breaks
 */
export function lyingWire(
  socket: WebSocket,
  connection: Socket,
  onBreak: (rejoining: Rejoining) => void,
): { wire: LyingWire; hear: (frame: Frame) => void } {
  const grants = new Map<number, number>();
  let onGrant = () => {};
  const closed = new Promise<void>((resolve) => connection.once('close', resolve));
  void closed.then(() => onGrant());
  const wire: LyingWire = {
    say: (frame) => wire.send(Buffer.concat(encodeFrame(frame))),
    send: (message) => {
      if (socket.readyState === socket.OPEN) socket.send(message, () => {});
    },
    ping: () => {
      if (socket.readyState === socket.OPEN) socket.ping(Buffer.alloc(125), undefined, () => {});
    },
    raw: (bytes) => {
      if (!connection.destroyed) connection.write(bytes);
    },
    drained: async () => {
      await turn();
      while (!connection.destroyed && connection.writableNeedDrain) {
        await Promise.race([new Promise((resolve) => connection.once('drain', resolve)), closed]);
      }
      return !connection.destroyed;
    },
    granted: async (stream, bytes) => {
      while (!connection.destroyed && (grants.get(stream) ?? limits.window) < bytes) {
        await new Promise<void>((resolve) => {
          onGrant = resolve;
        });
      }
      grants.set(stream, (grants.get(stream) ?? limits.window) - bytes);
      return !connection.destroyed;
    },
    deafen: () => socket.pause(),
    break: (rejoining) => {
      onBreak(rejoining);
      connection.destroy();
    },
    close: () => connection.destroy(),
  };
  const hear = (frame: Frame) => {
    if (frame.kind !== 'credit' && frame.kind !== 'reset') return;
    // Of what it wants no more it grants no more: it has to take what comes all the same.
    const bytes = frame.kind === 'credit' ? frame.bytes : Number.POSITIVE_INFINITY;
    grants.set(frame.stream, (grants.get(frame.stream) ?? limits.window) + bytes);
    onGrant();
  };
  return { wire, hear };
}
