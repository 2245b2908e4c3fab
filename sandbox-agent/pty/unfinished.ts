const ground = 0;
const escaped = 1;
const control = 2;
/** OSC, which a BEL ends, too. */
const command = 3;
/** DCS, SOS, PM, APC. */
const string = 4;
/** What stands before the string of a DCS. */
const deviceControl = 5;

const esc = 0x1b;
/** What is longer is no sequence that a terminal would wait for the end of. */
const longestBytes = 64 * 1024;

/**
 * The end of an output, as far as it is the beginning of a character of UTF-8 or of a control sequence: it has changed
 * nothing on the screen yet. The states are those of the VT500 parser, as far as they matter here:
 * https://vt100.net/emu/dec_ansi_parser
 */
export class Unfinished {
  #bytes: Uint8Array = new Uint8Array();
  #state = ground;
  /** Of the character that is open: bytes to come, and whether it may be a control character of the upper half. */
  #missing = 0;
  #isUpper = false;

  see(bytes: Uint8Array): void {
    let start = -this.#bytes.length;
    for (const [index, byte] of bytes.entries()) {
      this.#state = this.#next(byte);
      if (this.#state === ground && this.#missing === 0) start = index + 1;
    }
    this.#bytes = start < 0 ? Buffer.concat([this.#bytes, bytes]) : bytes.slice(start);
    if (this.#bytes.length > longestBytes) this.#bytes = new Uint8Array();
  }

  /** Without control characters inside of a sequence: they have had their effect. */
  get bytes(): Uint8Array {
    const isInSequence = this.#state === escaped || this.#state === control;
    return isInSequence ? this.#bytes.filter((byte) => byte >= 0x20 || byte === esc) : this.#bytes;
  }

  #next(byte: number): number {
    if (byte >= 0x80) return this.#upper(byte);
    this.#missing = 0;
    if (byte === esc) return escaped;
    if (byte === 0x18 || byte === 0x1a) return ground; // CAN, SUB
    switch (this.#state) {
      case escaped:
        return afterEscape(byte);
      case control:
        return byte >= 0x40 && byte !== 0x7f ? ground : control;
      case deviceControl:
        return byte >= 0x40 && byte !== 0x7f ? string : deviceControl;
      case command:
        return byte === 0x07 ? ground : command;
      default:
        return this.#state;
    }
  }

  #upper(byte: number): number {
    if (this.#missing > 0 && byte < 0xc0) {
      this.#missing--;
      // U+0080 to U+009F stand for ESC and a byte.
      return this.#isUpper && byte < 0xa0 ? afterEscape(byte - 0x40) : this.#character();
    }
    this.#missing = byte < 0xc2 || byte > 0xf4 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    this.#isUpper = byte === 0xc2;
    // What it belongs to is only known when all of it is there.
    return this.#missing > 0 ? this.#state : this.#character();
  }

  /** Ends what is no string. */
  #character(): number {
    return this.#state === command || this.#state === string ? this.#state : ground;
  }
}

function afterEscape(byte: number): number {
  switch (byte) {
    case 0x5b: // [
      return control;
    case 0x5d: // ]
      return command;
    case 0x50: // P
      return deviceControl;
    case 0x58: // X
    case 0x5e: // ^
    case 0x5f: // _
      return string;
    default:
      return byte < 0x30 || byte === 0x7f ? escaped : ground;
  }
}
