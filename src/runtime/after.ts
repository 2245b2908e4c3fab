const longestMs = 2 ** 31 - 1; // a longer timer of Node fires at once

/** Calls back after so many milliseconds, however many; after `Infinity`, never. @returns stops it */
export function after(ms: number, callback: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const wait = (restMs: number) => {
    timer = setTimeout(() => (restMs > longestMs ? wait(restMs - longestMs) : callback()), Math.min(restMs, longestMs));
  };
  wait(ms);
  return () => clearTimeout(timer);
}
