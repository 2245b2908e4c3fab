// @types/node of the host's Node does not know this module of the sandbox-agent's Node.
declare module 'node:ffi' {
  interface Values {
    i32: number;
    i64: bigint;
    pointer: bigint;
    void: undefined;
  }
  interface Signature {
    arguments: (keyof Values | 'buffer')[];
    return: keyof Values;
  }
  export function dlopen<Functions extends Record<string, Signature>>(
    path: string | null,
    functions: Functions,
  ): {
    functions: {
      [Name in keyof Functions]: (...values: (number | bigint | Uint8Array)[]) => Values[Functions[Name]['return']];
    };
  };
  /** Where the bytes are. They must outlive its use, and not be a view of less than 64 bytes without a buffer of its own. */
  export function getRawPointer(source: Uint8Array | ArrayBuffer): bigint;
}
