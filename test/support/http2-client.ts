/**
 * A program for Node, for within a sandbox, that asks in HTTP/2 and offers nothing else, as those of gRPC do (curl offers
 * both). Its arguments are a method, a URL and header fields; the body of a PUT is its input. It prints the body of the
 * answer, and to the other output the trailers.
 */
export const http2Client = `
import { connect } from 'node:http2';
import { pipeline } from 'node:stream/promises';
const [method, url, ...fields] = process.argv.slice(2);
const { origin, pathname, search } = new URL(url);
const session = connect(origin);
const headers = Object.fromEntries(fields.map((field) => field.split(': ')));
const stream = session.request({ ':method': method, ':path': pathname + search, ...headers }, { endStream: method !== 'PUT' });
stream.on('trailers', (trailers) => console.error(JSON.stringify(trailers)));
if (method === 'PUT') pipeline(process.stdin, stream).catch(() => {});
for await (const chunk of stream) if (!process.stdout.write(chunk)) await new Promise((done) => process.stdout.once('drain', done));
session.close();
`;
