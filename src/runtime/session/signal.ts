/** A message that is not from a person, as a model gets it: runtime-contract.md, section 4.1. */
export function signalText(tag: string, attributes: Readonly<Record<string, string>>, content: string): string {
  const shown = Object.entries(attributes).map(([name, value]) => ` ${name}="${escaped(value)}"`);
  return `<${tag}${shown.join('')}>\n${escaped(content)}\n</${tag}>`;
}

/** For an element or an attribute of XML. */
export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
