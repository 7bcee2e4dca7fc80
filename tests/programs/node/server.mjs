// The test services' HTTP API on Node: `node server.mjs PORT`.
import http from "node:http";
import { once } from "node:events";

const counts = {};
const durations = [];

/** Writes `size` bytes in pieces of at most 64 KiB. */
async function body(response, size) {
  const piece = Buffer.alloc(Math.min(size, 65536), "x");
  for (; size > 0; size -= piece.length) {
    if (!response.write(size < piece.length ? piece.subarray(0, size) : piece)) {
      await once(response, "drain");
    }
  }
  response.end();
}

function json(response, value) {
  const text = JSON.stringify(value);
  response.writeHead(200, { "content-type": "application/json", "content-length": text.length });
  response.end(text);
}

async function answer(request, response) {
  const url = new URL(request.url, "http://localhost");
  const [, route, argument] = url.pathname.split("/");
  switch (route) {
    case "status":
      response.writeHead(Number(argument));
      return response.end();
    case "delay":
      if (Number(argument)) {
        await new Promise((resolve) => setTimeout(resolve, Number(argument)));
      }
      return json(response, {});
    case "upload": {
      let size = 0;
      for await (const chunk of request) {
        size += chunk.length;
      }
      return json(response, { size });
    }
    case "bytes":
      response.writeHead(200, { "content-length": argument });
      return request.method === "HEAD" ? response.end() : body(response, Number(argument));
    case "chunked":
      response.writeHead(200);
      return body(response, Number(argument));
    case "users":
      return json(response, { user: Number(argument) });
    case "proxy": {
      const query = url.searchParams;
      const upstream = await fetch(`http://127.0.0.1:${query.get("port")}${query.get("path")}`);
      const content = Buffer.from(await upstream.arrayBuffer());
      response.writeHead(upstream.status, { "content-length": content.length });
      return response.end(content);
    }
    case "counts":
      return json(response, counts);
    case "durations":
      return json(response, durations);
    default:
      response.writeHead(404);
      return response.end();
  }
}

const server = http.createServer(async (request, response) => {
  const begin = process.hrtime.bigint();
  try {
    await answer(request, response);
  } catch (error) {
    console.error(error);
    response.destroy();
  }
  if (request.url === "/counts" || request.url === "/durations") {
    return;
  }
  counts[response.statusCode] = (counts[response.statusCode] ?? 0) + 1;
  if (request.url.startsWith("/delay/")) {
    durations.push(Number(process.hrtime.bigint() - begin));
  }
});
server.keepAliveTimeout = 60_000;
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 1024 });
process.on("SIGTERM", () => process.exit(0));
