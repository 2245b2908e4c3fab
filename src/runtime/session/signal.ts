/** A message that is not from a person. */
export interface Signal {
  /** Of the element that a model gets it as: runtime-contract.md, section 4.1. */
  tag: string;
  attributes: Readonly<Record<string, string>>;
  content: string;
}

/** As a model gets it. */
export function signalText({ tag, attributes, content }: Signal): string {
  const shown = Object.entries(attributes).map(([name, value]) => ` ${name}="${escaped(value)}"`);
  return `<${tag}${shown.join('')}>\n${escaped(content)}\n</${tag}>`;
}

/** For an element or an attribute of XML. */
export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
