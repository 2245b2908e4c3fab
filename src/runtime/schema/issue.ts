import { pathText } from './path.ts';

/** One thing that is wrong with a value. Without `path` it is about the value as a whole. */
export interface Issue {
  message: string;
  path?: PropertyKey[];
}

/** `issueText({ message: 'Expected a number', path: ['port'] }, 'input')` is `input.port: Expected a number`. */
export function issueText(issue: Issue, root: string): string {
  return `${pathText(root, issue.path ?? [])}: ${issue.message}`;
}
