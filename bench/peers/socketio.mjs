// Socket.IO 4: rooms, and each message to the others of its room. Nothing is checked, nobody is asked who they are.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.on("connection", (socket) => {
  const room = socket.handshake.query.room;
  socket.join(room);
  socket.on("cursor", (cursor) => socket.to(room).emit("cursor", cursor));
});

http.listen(Number(process.argv[2]), "127.0.0.1");
