// gRPC peer without generated code: `node grpc_peer.mjs server PORT` or `node grpc_peer.mjs client PORT MODE COUNT`.
// Methods, modes and what a request says are those of `tests/src/grpc.rs`.
import grpc from "@grpc/grpc-js";
import { setTimeout as sleep } from "node:timers/promises";

const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
  path: `/redwire.test.Peer/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const definition = {
  Unary: method("Unary", false, false),
  Collect: method("Collect", true, false),
  Stream: method("Stream", false, true),
  Echo: method("Echo", true, true),
  Slow: method("Slow", false, true),
};
const numbers = (message) => message.toString().split(" ").map(Number);
const error = (code) => ({ code, details: "as asked" });

// Answers the metadata of a call that churns with the same.
function tell(call) {
  const [churn] = call.metadata.get("x-churn");
  if (churn) {
    const metadata = new grpc.Metadata();
    metadata.set("x-churn", churn);
    call.sendMetadata(metadata);
  }
}

function serve(port) {
  const server = new grpc.Server();
  server.addService(definition, {
    Unary(call, answer) {
      tell(call);
      const [code] = numbers(call.request);
      code ? answer(error(code)) : answer(null, call.request);
    },
    Collect(call, answer) {
      tell(call);
      let count = 0;
      call.on("data", () => count++);
      call.on("end", () => answer(null, Buffer.from(String(count))));
    },
    Stream(call) {
      tell(call);
      const [code, count] = numbers(call.request);
      for (let i = 0; i < count; i++) {
        call.write(call.request);
      }
      code ? call.emit("error", error(code)) : call.end();
    },
    Echo(call) {
      tell(call);
      call.on("data", (message) => {
        if (!call.write(message)) {
          call.pause();
          call.once("drain", () => call.resume());
        }
      });
      call.on("end", () => call.end());
    },
    Slow(call) {
      call.write(call.request);
      const over = setTimeout(() => call.end(), 20_000);
      call.on("cancelled", () => clearTimeout(over));
    },
  });
  server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (failure) => {
    if (failure) {
      throw failure;
    }
  });
  process.on("SIGTERM", () => process.exit(0));
}

async function run(port, mode, count) {
  const Peer = grpc.makeGenericClientConstructor(
    { ...definition, Missing: method("Missing", false, false) },
    "redwire.test.Peer",
  );
  const client = new Peer(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), { "grpc.enable_http_proxy": 0 });
  const counts = {};
  let metadata = new grpc.Metadata();
  const done = (name, code) => {
    const key = `${name} ${grpc.status[code]}`;
    counts[key] = (counts[key] ?? 0) + 1;
  };
  const unary = (name, request) =>
    new Promise((resolve) => client[name](Buffer.from(request), metadata, (failure) => resolve(done(name, failure?.code ?? 0))));
  const finished = (name, call, each = () => {}) =>
    new Promise((resolve) => {
      call.on("data", each);
      call.on("error", () => {});
      call.on("status", (status) => resolve(done(name, status.code)));
    });
  const send = async (call, messages, pause = 0) => {
    for (let i = 0; i < messages; i++) {
      if (!call.write(Buffer.from("0 0"))) {
        await new Promise((resolve) => call.once("drain", resolve));
      }
      if (pause) {
        await sleep(pause);
      }
    }
    call.end();
  };
  const stream = (request) => finished("Stream", client.Stream(Buffer.from(request), metadata));
  const echo = (messages, pause) => {
    const call = client.Echo(metadata);
    return Promise.all([finished("Echo", call), send(call, messages, pause)]);
  };
  const collect = () =>
    new Promise((resolve) => {
      const call = client.Collect(metadata, (failure) => resolve(done("Collect", failure?.code ?? 0)));
      send(call, 3);
    });
  const one = (i) => {
    switch (i % 10) {
      case 3:
        return unary("Unary", "5 0");
      case 4:
        return unary("Unary", "13 0");
      case 5:
        return collect();
      case 6:
        return stream("0 5");
      case 7:
        return echo(4);
      case 8:
        return stream("10 2");
      case 9:
        return unary("Missing", "0 0");
      default:
        return unary("Unary", "0 0");
    }
  };
  const paced = (i) => one(i).then(() => sleep(2));
  const modes = {
    mix: one,
    paced,
    churn: (i) => {
      metadata = new grpc.Metadata();
      metadata.set("x-churn", String(i).padStart(100, "0"));
      return paced(i);
    },
    long: () => echo(20_000),
    drip: () => echo(600, 10),
    patient: () => {
      const call = client.Slow(Buffer.from("0 0"), { deadline: Date.now() + 10_000 });
      return finished("Slow", call, () => sleep(50).then(() => call.cancel()));
    },
    cancel: () => {
      const call = client.Slow(Buffer.from("0 0"));
      return finished("Slow", call, () => call.cancel());
    },
    deadline: () => finished("Slow", client.Slow(Buffer.from("0 0"), { deadline: Date.now() + 150 })),
  };
  let next = 0;
  const worker = async () => {
    while (next < count) {
      await modes[mode](next++);
    }
  };
  await Promise.all(Array.from({ length: ["long", "drip", "paced", "churn"].includes(mode) ? 1 : 8 }, worker));
  client.close();
  console.log(JSON.stringify(counts));
}

const [, , role, port, mode, count] = process.argv;
if (role === "server") {
  serve(port);
} else {
  await run(port, mode, Number(count));
}
