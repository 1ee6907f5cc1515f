"""python-socketio on uvicorn: rooms, and each message to the others of its room. Nothing is checked, nobody is asked."""

# mypy: ignore-errors

import sys
from urllib.parse import parse_qs

import socketio
import uvicorn

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
rooms = {}


@server.event
async def connect(sid, environ):
    rooms[sid] = parse_qs(environ["QUERY_STRING"])["room"][0]
    await server.enter_room(sid, rooms[sid])


@server.event
async def cursor(sid, data):
    await server.emit("cursor", data, room=rooms[sid], skip_sid=sid)


@server.event
async def disconnect(sid):
    rooms.pop(sid, None)


uvicorn.run(socketio.ASGIApp(server), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
