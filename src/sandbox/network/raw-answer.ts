/** A whole answer in HTTP, for a connection that no server of Node answers on. */
export function rawAnswer({ status, reason, body }: { status: number; reason: string; body: string }): string {
  const head = [
    `HTTP/1.1 ${status} ${reason}`,
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  return `${head.join('\r\n')}\r\n\r\n${body}`;
}
