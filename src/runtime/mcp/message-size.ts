/** Of one message of a server, whatever it comes by. A longer one ends the connection. */
export const maxMessageBytes = 32 * 1024 * 1024;
