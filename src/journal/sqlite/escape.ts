/**
 * A text as the database can keep it: the driver reads one up to its first NUL, and makes one and the same character of
 * all lone surrogates. No two texts have the same escaped one.
 */
export function escapeText(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** The text that was escaped. */
export function unescapeText(escaped: string): string {
  return JSON.parse(`"${escaped}"`) as string; // of a string in quotes, which is what escapeText made
}
