// Transport layer: a WebSocket as a link. Knows no requests and no retries.

import { bytesOf, checkSize, decode, encode } from "../codec.js";
import { closed, lost } from "../errors.js";
import { SUBPROTOCOLS, type ServerMessage } from "../generated.js";
import type { Dialing, Link, LinkEvents } from "../link.js";
import type { Upward } from "../requests.js";

/** A token of these letters, and no longer, fits into the handshake; any other is the first message. */
const FITS = /^[\w.~+-]{1,4000}$/;
const CONGESTED = 65_536;

export function dialWebSocket(to: Dialing, on: LinkEvents): Link {
  const { WebSocket } = to.platform;
  if (!WebSocket) throw lost("There is no WebSocket here");
  const { format } = to;
  const token = to.token();
  const early = token !== undefined && FITS.test(token);
  const url = to.address.of("ws", { room: to.room, cursor: to.cursor });
  const socket = new WebSocket(url, [SUBPROTOCOLS[format], ...(early ? [`bearer.${token}`] : [])]);
  socket.binaryType = "arraybuffer";

  function send(message: Upward): void {
    const encoded = encode(message, format);
    checkSize(bytesOf(encoded), to.limit());
    socket.send(encoded as string);
  }

  function close(): void {
    // Some sockets tell even of their end as an error, and insist that somebody hears it.
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    socket.close();
  }

  socket.onopen = () => {
    on.reached();
    if (token && !early) send({ type: "request", id: "login", method: "auth.login", params: { token } });
  };
  socket.onmessage = ({ data }) => {
    let message;
    try {
      message = decode(data, format) as ServerMessage;
    } catch {
      close();
      on.lost(lost("The server sent what cannot be read"));
      return;
    }
    on.received(message);
  };
  socket.onclose = ({ code, reason }) => {
    close();
    if (code !== 1006) on.reached();
    on.lost(closed(code, reason));
  };
  socket.onerror = () => {}; // `onclose` follows, and says more

  return {
    send,
    close,
    get congested() {
      return socket.bufferedAmount > CONGESTED;
    },
  };
}
