/**
 * Says what is being done, on standard error, which leaves standard output to the command. On a terminal the details of
 * a step share one line, with a bar where its size is known; elsewhere each is a plain line, a bar one line per quarter.
 * @typedef {ReturnType<typeof createProgress>} Progress
 */

/** @param {NodeJS.WriteStream} [stream] */
export function createProgress(stream = process.stderr) {
  const startedAt = performance.now();
  let steps = 0;
  let openLine = false;
  let quarter = 0;
  let lastDetail = '';

  /** @param {string} line */
  const print = (line) => {
    stream.write(openLine ? `\r\x1b[K${line}\n` : `${line}\n`);
    openLine = false;
  };

  return {
    /** A piece of work begins. @param {string} text */
    step(text) {
      steps += 1;
      quarter = 0;
      lastDetail = '';
      print(`• ${text}`);
    },

    /** How far it is. @param {string} text @param {number} [fraction] */
    detail(text, fraction) {
      if (stream.isTTY) {
        const bar = fraction === undefined ? '' : `${'━'.repeat(Math.round(fraction * 20)).padEnd(20, '╌')} `;
        stream.write(`\r\x1b[K  ${bar}${text}`.slice(0, (stream.columns ?? 80) + 3)); // 3 of them don't show
        openLine = true;
        return;
      }
      const reached = Math.floor((fraction ?? 0) * 4);
      if (fraction !== undefined ? reached <= quarter : text === lastDetail) return;
      quarter = reached;
      lastDetail = text;
      print(fraction === undefined ? `  ${text}` : `  ${reached * 25} % ${text}`);
    },

    /** Everything is there. @param {string} text @param {{ quiet?: boolean }} [options] quiet: only after a step */
    ready(text, { quiet = false } = {}) {
      const seconds = (performance.now() - startedAt) / 1000;
      if (steps > 0) print(`✓ ${text} (${seconds.toFixed(seconds < 10 ? 1 : 0)} s)`);
      else if (!quiet) print(`✓ ${text}`);
    },

    /** It can't go on. @param {string} text */
    fail(text) {
      print(`✗ ${text}`);
    },
  };
}
