/**
 * What a terminal would take as a command, as ECMA-48 and xterm's "Control Sequences" write them: CSI, then the strings
 * (OSC, DCS, SOS, PM, APC) with their end, then the short ones. A sequence that the end of the text cuts counts, too.
 */
const sequences = new RegExp(
  [
    '(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*(?:[@-~]|$)',
    '(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])[^\\x07\\x1b\\x9c]*(?:\\x07|\\x1b\\\\|\\x9c|$)',
    '\\x1b[ -/]*(?:[0-~]|$)',
  ].join('|'),
  'g',
);

/** C0, DEL, C1, and the marks that turn the direction of text around, with which shown code differs from real code. */
const controls = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * Text of a sandbox or a model as one line that a terminal only shows: escape sequences are gone, other control
 * characters are visible signs.
 */
export function harmlessLine(text: string): string {
  return text.replace(sequences, '').replace(/\t/g, '  ').replace(controls, visible);
}

/** The lines of a text, each of them harmless. One line break at the end makes no further line. */
export function harmlessLines(text: string): string[] {
  return text
    .replace(/\r?\n$/, '')
    .split(/\r?\n/)
    .map((line) => harmlessLine(overwritten(line)));
}

/**
 * What is seen of a line after its carriage returns, with which programs draw progress.
 * @param options.keepEnd - keeps those at the end: what comes next may write over the line
 */
export function overwritten(line: string, { keepEnd = false } = {}): string {
  const end = line.replace(/\r+$/, '');
  return (keepEnd ? line : end).slice(end.lastIndexOf('\r') + 1);
}

function visible(character: string): string {
  const code = character.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code); // Unicode's pictures of control characters
  return code === 0x7f ? '\u2421' : '\ufffd';
}

/** Cuts nothing from a chunk, but makes it harmless: for a stream that goes to a terminal as it comes. */
export class HarmlessStream {
  #rest = '';
  readonly #decoder = new TextDecoder();

  /** The complete lines so far, each with its line break. What has no line break yet waits, up to 8,192 characters. */
  push(chunk: Uint8Array): string {
    return this.#take(this.#rest + this.#decoder.decode(chunk, { stream: true }), false);
  }

  end(): string {
    return this.#take(this.#rest + this.#decoder.decode(), true);
  }

  #take(text: string, ended: boolean): string {
    const cut = ended || text.length > 8_192 ? text.length : text.lastIndexOf('\n') + 1;
    this.#rest = text.slice(cut);
    return text
      .slice(0, cut)
      .split('\n')
      .map((line) => harmlessLine(overwritten(line)))
      .join('\n');
  }
}
