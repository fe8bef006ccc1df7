// Answers each request with head and body in one piece; from a connection's 41st on, the body comes 5 ms after the head.
// So a proxy that takes heads by recv and bodies by splice(2) starts to splice late in a connection's life.
"use strict";
const http = require("http");

const [address, port] = process.argv.slice(2);
const body = Buffer.alloc(90, "x");

http
  .createServer((request, response) => {
    const { socket } = request;
    socket.answered = (socket.answered || 0) + 1;
    response.setHeader("Content-Length", body.length);
    if (socket.answered <= 40) {
      response.end(body);
    } else {
      response.flushHeaders();
      setTimeout(() => response.end(body), 5);
    }
  })
  .listen(Number(port), address);
