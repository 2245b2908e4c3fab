import { register } from 'node:module';
import { Socket } from 'node:net';

/** Where a run that `berth run --watch` started finds it. */
const descriptor = 3;

/**
 * Tells the process at the other end of descriptor 3 the URL of each module that is loaded from now on, also of one that
 * fails to load or is not there. Node takes such hooks only as a module of its own, in a thread of its own, which can
 * write to a descriptor and to nothing else of this process.
 * @param onClose - the other process is gone, or wants this one to stop
 */
export function reportImports(onClose: () => void): void {
  const source = `
    import { writeSync } from 'node:fs';
    const tell = (url) => writeSync(${descriptor}, url + '\\n');
    export async function resolve(specifier, context, next) {
      try {
        return await next(specifier, context);
      } catch (error) {
        if (/^\\.{0,2}\\//.test(specifier)) tell(new URL(specifier, context.parentURL).href);
        throw error;
      }
    }
    export async function load(url, context, next) {
      tell(url);
      return next(url, context);
    }`;
  register(`data:text/javascript,${encodeURIComponent(source)}`);
  // Half open: what is still loading while this process stops is told all the same, and not an error.
  new Socket({ fd: descriptor, allowHalfOpen: true }).on('error', onClose).on('end', onClose).resume();
}
