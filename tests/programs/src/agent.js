// Node's http client with an agent that keeps four connections, or its http2 client with one, all rounds at once:
// `agent.js HOST PORT IS_HTTP2 IS_PLAIN ROUNDS`. A plain one tries neither trailers nor hints.
// Prints as JSON how often each answer came, and how many connections it took.
"use strict";
const crypto = require("crypto");
const http = require("http");
const http2 = require("http2");

const [host, port, second, plain, rounds] = process.argv.slice(2);
const BODY = crypto.randomBytes(100000);
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const session = second === "1" ? http2.connect(`http://${host}:${port}`) : null;
const answers = {};
const ports = new Set();

function told(method, path, status, parts, more) {
  const body = Buffer.concat(parts);
  const text = body.length < 40 ? body.toString().trim() : crypto.createHash("sha256").update(body).digest("hex").slice(0, 8);
  const said = [method, path, status, body.equals(BODY) ? "echo" : text, ...more].filter(Boolean).join(" ");
  answers[said] = (answers[said] || 0) + 1;
}

function ask1(method, path, { body, trailers, expects } = {}) {
  return new Promise((resolve, reject) => {
    const headers = expects ? { Expect: "100-continue" } : {};
    const more = [];
    const request = http.request({ host, port, method, path, agent, headers });
    request.on("socket", (socket) => (socket.connecting ? socket.once("connect", () => ports.add(socket.localPort)) : 0));
    request.on("error", (error) => reject(new Error(`${method} ${path}: ${error}`)));
    request.on("information", (info) => more.push(info.statusCode));
    request.on("continue", () => request.end(body));
    request.on("response", (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        told(method, path, response.statusCode, parts, [...more, response.trailers["x-sum"]]);
        resolve();
      });
    });
    if (expects) {
      request.flushHeaders();
    } else if (trailers) {
      request.setHeader("Trailer", "x-sum");
      request.write(body);
      request.addTrailers({ "x-sum": "11" });
      request.end();
    } else if (body) {
      request.write(body.subarray(0, 1000)); // two writes: it is sent in chunks
      request.end(body.subarray(1000));
    } else {
      request.end();
    }
  });
}

function ask2(method, path, { body, trailers } = {}) {
  return new Promise((resolve, reject) => {
    const options = { waitForTrailers: Boolean(trailers), endStream: !body };
    const stream = session.request({ ":method": method, ":path": path }, options);
    const parts = [];
    let status, sum;
    const more = [];
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "11" }));
    stream.on("headers", (headers) => more.push(headers[":status"])); // of 1xx
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.on("trailers", (headers) => (sum = headers["x-sum"]));
    stream.on("data", (part) => parts.push(part));
    stream.on("error", (error) => reject(new Error(`${method} ${path}: ${error}`)));
    stream.on("close", () => {
      told(method, path, status, parts, [...more, sum]);
      resolve();
    });
    if (body) stream.end(body);
  });
}

async function main() {
  const ask = session ? ask2 : ask1;
  const all = [];
  for (let n = 0; n < Number(rounds); n++) {
    all.push(
      ask("GET", "/small"),
      ask("GET", "/shut"),
      ask("POST", "/open/echo", { body: BODY }),
      ask("POST", "/shut", { body: BODY }),
      ask("HEAD", "/large"),
      ask("GET", "/open/empty"),
    );
    if (plain !== "1") {
      all.push(
        ask("GET", "/open/trailers"),
        ask("POST", "/open/trailers", { body: BODY, trailers: true }),
        ask("GET", "/open/hints"),
      );
    }
    if (!session) all.push(ask("POST", "/open/echo", { body: BODY, expects: true }));
  }
  await Promise.all(all);
  agent.destroy();
  if (session) session.close();
  console.log(JSON.stringify({ connections: session ? 1 : ports.size, answers }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
