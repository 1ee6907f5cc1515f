// uWebSockets for Node: its own publish to a topic, which leaves out the sender. Nothing is read or checked.
import uWS from "@btc-vision/uwebsockets.js";

uWS
  .App()
  .ws("/*", {
    compression: uWS.DISABLED,
    maxBackpressure: 8 << 20,
    upgrade: (response, request, context) =>
      response.upgrade(
        { room: request.getQuery("room") },
        request.getHeader("sec-websocket-key"),
        request.getHeader("sec-websocket-protocol"),
        request.getHeader("sec-websocket-extensions"),
        context,
      ),
    open: (socket) => socket.subscribe(socket.getUserData().room),
    message: (socket, message, binary) => socket.publish(socket.getUserData().room, message, binary),
  })
  .listen("127.0.0.1", Number(process.argv[2]), () => {});
