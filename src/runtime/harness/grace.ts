/** How long work that ignores an abort is waited for. What is deeper is given up first, so that all is told in order. */
export function graceMs(depth: number): number {
  return 10_000 - depth * 1_000;
}
