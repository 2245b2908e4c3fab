/**
 * Whether a path, relative to the directory that is searched, matches a glob. A pattern without `/` looks at the name
 * only. `*` and `?` stop at `/`; `**` as a whole part stands for any number of parts; `[…]` and `{a,b}` as in a shell.
 */
export function globMatcher(pattern: string): (path: string) => boolean {
  const byName = !pattern.includes('/');
  const expressions = expandBraces(pattern.replace(/^(\.?\/)+/, '')).map(expression);
  return (path) => {
    const subject = byName ? path.slice(path.lastIndexOf('/') + 1) : path;
    return expressions.some((expression) => expression.test(subject));
  };
}

/** `a{b,c}d` is `abd` and `acd`. Braces that are not closed, or have no comma, stand for themselves. */
export function expandBraces(pattern: string): string[] {
  const open = pattern.indexOf('{');
  if (open === -1) return [pattern];
  const parts: string[] = [];
  let depth = 0;
  let start = open + 1;
  for (let i = open; i < pattern.length; i++) {
    const character = pattern[i];
    if (character === '{') depth++;
    else if (character === '}') depth--;
    if ((character === ',' && depth === 1) || depth === 0) {
      parts.push(pattern.slice(start, i));
      start = i + 1;
    }
    if (depth === 0) {
      const after = expandBraces(pattern.slice(i + 1));
      const before = pattern.slice(0, open);
      if (parts.length === 1) return after.map((rest) => `${before}{${parts[0]}}${rest}`);
      return parts.flatMap(expandBraces).flatMap((part) => after.map((rest) => before + part + rest));
    }
  }
  return [pattern];
}

function expression(pattern: string): RegExp {
  const source = pattern.replace(
    /\*\*\/|\/\*\*$|\*+|\?|\[(!?)([^\]]+)\]|[\\^$.+()|{}[\]]/g,
    (token, not, set, at: number) => {
      const wholePart = at === 0 || pattern[at - 1] === '/';
      if (token === '**/' && wholePart) return '(?:[^/]+/)*';
      if (token === '**/') return '[^/]*/';
      if (token === '/**') return '/.+';
      if (token === '**' && wholePart) return '.*';
      if (token.startsWith('*')) return '[^/]*';
      if (token === '?') return '[^/]';
      if (set !== undefined) return `[${not === '!' ? '^/' : ''}${set.replace(/[\\\]^[]/g, '\\$&')}]`;
      return `\\${token}`;
    },
  );
  return new RegExp(`^${source}$`, 'su');
}
