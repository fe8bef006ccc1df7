// Answers in every way that HTTP/1.1 and HTTP/2 know: by length and without, with trailers, after hints, without a body,
// from a cache, as an echo; and speaks WebSocket. Whatever the path, it refuses nothing: that is for others to do.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const http2 = require("http2");
const path = require("path");

const [port, port2, root] = process.argv.slice(2);
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455, 1.3
const [CLOSE, PING, PONG] = [8, 9, 10];
const file = (name) => path.join(root, name);

const answers = {
  "POST /open/echo": (request, response) => request.pipe(response),
  "GET /open/stream": (request, response) => fs.createReadStream(file("large")).pipe(response),
  "GET /open/trailers": (request, response) => {
    response.writeHead(200, { Trailer: "x-sum" });
    response.write("one,");
    response.addTrailers({ "x-sum": "7" });
    response.end("two");
  },
  "POST /open/trailers": (request, response) => {
    request.resume();
    request.on("end", () => response.end(request.trailers["x-sum"]));
  },
  "GET /open/hints": (request, response) => {
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    response.end("after a hint");
  },
  "GET /open/empty": (request, response) => response.writeHead(204).end(),
  "GET /open/cached": (request, response) => {
    const known = request.headers["if-none-match"] === '"seven"';
    response.writeHead(known ? 304 : 200, { ETag: '"seven"' }).end(known ? undefined : "worth keeping");
  },
};

function answer(request, response) {
  const asked = request.url.split("?")[0];
  const known = answers[`${request.method} ${asked}`];
  const name = file(path.basename(asked));
  if (known) {
    known(request, response);
  } else if (fs.existsSync(name)) {
    response.setHeader("Content-Length", fs.statSync(name).size);
    request.method === "HEAD" ? response.end() : fs.createReadStream(name).pipe(response);
  } else {
    request.resume();
    response.end("nobody may see this");
  }
}

function frame(first, payload) {
  const size = payload.length;
  const head = Buffer.alloc(size < 126 ? 2 : size < 65536 ? 4 : 10);
  head[0] = first;
  head[1] = size < 126 ? size : size < 65536 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(size, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(size), 2);
  return Buffer.concat([head, payload]);
}

// Returns the first frame of a client, and where it ends; nothing, if it is not whole.
function take(data) {
  if (data.length < 2) return null;
  const short = data[1] & 127;
  const at = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (data.length < at + 4) return null;
  const size = at === 2 ? short : at === 4 ? data.readUInt16BE(2) : Number(data.readBigUInt64BE(2));
  const end = at + 4 + size;
  if (data.length < end) return null;
  const payload = Buffer.from(data.subarray(at + 4, end));
  for (let n = 0; n < size; n++) payload[n] ^= data[at + (n & 3)];
  return { first: data[0], payload, end };
}

function upgrade(request, socket, head) {
  const key = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + GUID).digest("base64");
  const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  const said = `${lines.join("\r\n")}\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(said), frame(0x81, Buffer.from("welcome"))])); // in one piece
  let held = head;
  socket.on("data", (data) => {
    held = Buffer.concat([held, data]);
    for (let found = take(held); found; found = take(held)) {
      held = held.subarray(found.end);
      const kind = found.first & 15;
      socket.write(frame(kind === PING ? 0x80 | PONG : found.first, found.payload));
      if (kind === CLOSE) socket.end();
    }
  });
  socket.on("error", () => socket.destroy());
}

http2.createServer(answer).listen(Number(port2));
http.createServer(answer).on("upgrade", upgrade).listen(Number(port));
