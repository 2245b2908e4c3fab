/**
 * What is given to it is waited for until `ended` is settled: then it is `undefined` at once, and nothing more is begun.
 * One wait at a time. Not `Promise.race`: a promise that stays open keeps something of each race that it was in.
 */
export function unlessEnded(
  ended: Promise<unknown>,
): <Result>(work: () => Promise<Result>) => Promise<Result | undefined> {
  let isOver = false;
  let stop = () => {};
  const end = () => {
    isOver = true;
    stop();
  };
  ended.then(end, end);
  return (work) =>
    new Promise((resolve, reject) => {
      stop = () => resolve(undefined);
      if (isOver) stop();
      else work().then(resolve, reject);
    });
}
