// Node's `ws`: a Map of rooms; each message goes as it came to the others of its room. Nothing is read or checked.
import { WebSocket, WebSocketServer } from "ws";

const rooms = new Map();
const server = new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1", perMessageDeflate: false });

server.on("connection", (socket, request) => {
  const name = new URL(request.url, "ws://localhost").searchParams.get("room");
  const room = rooms.get(name) ?? new Set();
  rooms.set(name, room.add(socket));
  socket.on("message", (data, binary) => {
    for (const other of room) {
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(data, { binary });
    }
  });
  socket.on("close", () => {
    room.delete(socket);
    if (!room.size) rooms.delete(name);
  });
  socket.on("error", () => socket.terminate());
});
