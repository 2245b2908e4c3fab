/** The part of a URL that stands for a title. */
export function slug(title) {
  return title.toLowerCase().replace(' ', '-');
}
