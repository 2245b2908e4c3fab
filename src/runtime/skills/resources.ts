import type { SkillReference } from './skill.ts';

const root = '/.berth/skills/';
/** As mail has base64: so it can be read by lines. */
const base64Line = /.{1,76}/g;

/**
 * A file that a skill brings, as a model reads it.
 * @returns undefined for a path that is elsewhere
 * @throws no skill brings it
 */
export function resourceText(skills: readonly SkillReference[], path: string): string | undefined {
  if (!path.startsWith(root)) return undefined;
  for (const { directory, files } of skills) {
    const file = files.find((each) => path === `${directory}/${each.path}`);
    if (file) return file.encoding === 'utf8' ? file.content : (file.content.match(base64Line) ?? []).join('\n');
  }
  throw new Error(`ENOENT: no skill brings ${path}; activate_skill says which files there are.`);
}
