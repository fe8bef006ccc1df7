// Serves a directory's files from memory and by stream, and answers POST /echo with the body that it got.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");

const [address, port, root] = process.argv.slice(2);
const small = fs.readFileSync(path.join(root, "small"));

http
  .createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    if (request.method === "POST" && pathname === "/echo") {
      request.pipe(response);
    } else if (pathname === "/small") {
      response.end(small);
    } else if (pathname === "/large" || pathname === "/huge") {
      fs.createReadStream(path.join(root, pathname)).pipe(response);
    } else {
      response.statusCode = 404;
      response.end();
    }
  })
  .listen(Number(port), address);
