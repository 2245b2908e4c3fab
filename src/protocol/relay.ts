import { type Duplex, finished } from 'node:stream';

/**
 * Passes on what comes, both ways, until both have ended. When one has closed, the other still gets all that it sent.
 * @param through - what comes from the other goes through these
 * @param abort - ends one when the other has broken off
 */
export function relay(
  one: Duplex,
  other: Duplex,
  { through = [], abort = destroy }: { through?: readonly Duplex[]; abort?: (stream: Duplex) => void } = {},
): void {
  const breakOff = () => {
    abort(one);
    abort(other);
  };
  for (const stream of through) stream.once('error', breakOff);
  pass([one, other], breakOff);
  pass([other, ...through, one], breakOff);
}

/** Not `pipeline`, which destroys the first, with what it was given and has not sent, as soon as the last takes no more. */
function pass(streams: [Duplex, ...Duplex[]], breakOff: () => void): void {
  const [from] = streams;
  const to = streams.reduce((source, sink) => source.pipe(sink));
  finished(from, { writable: false }, (error) => {
    if (error) breakOff();
  });
  finished(to, { readable: false }, (error) => {
    if (error) finished(from, { readable: false }, () => from.destroy());
  });
}

function destroy(stream: Duplex): void {
  stream.destroy();
}
