/** A path as people write it: `pathText('output', ['items', 3, 'when'])` is `output.items[3].when`. */
export function pathText(root: string, path: readonly PropertyKey[]): string {
  let text = root;
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`;
    else if (typeof key === 'string' && /^[A-Za-z_$][\w$]*$/.test(key)) text += text === '' ? key : `.${key}`;
    else text += `[${typeof key === 'symbol' ? String(key) : JSON.stringify(key)}]`;
  }
  return text;
}
