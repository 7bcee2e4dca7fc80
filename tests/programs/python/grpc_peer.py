"""gRPC peer without generated code: `grpc_peer.py server PORT` or `grpc_peer.py client PORT MODE COUNT`.

Methods, modes and what a request says are those of `tests/src/grpc.rs`."""

import collections
import concurrent.futures
import json
import sys
import threading
import time

import grpc

SERVICE = "redwire.test.Peer"
CODES = {code.value[0]: code for code in grpc.StatusCode}


def numbers(message):
    return [int(number) for number in message.decode().split()]


def settle(context, code):
    if code:
        context.abort(CODES[code], "as asked")


def tell(context):
    """Answers the metadata of a call that churns with the same."""
    churn = [(key, value) for key, value in context.invocation_metadata() if key == "x-churn"]
    if churn:
        context.send_initial_metadata(churn)


def unary(request, context):
    tell(context)
    settle(context, numbers(request)[0])
    return request


def collect(requests, context):
    tell(context)
    return str(sum(1 for _ in requests)).encode()


def stream(request, context):
    tell(context)
    code, count = numbers(request)
    for _ in range(count):
        yield request
    settle(context, code)


def echo(requests, context):
    tell(context)
    yield from requests


def slow(request, context):
    yield request
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait(20)


def serve(port):
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Slow": grpc.unary_stream_rpc_method_handler(slow),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


class Client:
    def __init__(self, port):
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.more = {}
        path = f"/{SERVICE}/"
        self.unary = self.channel.unary_unary(path + "Unary")
        self.missing = self.channel.unary_unary(path + "Missing")
        self.collect = self.channel.stream_unary(path + "Collect")
        self.stream = self.channel.unary_stream(path + "Stream")
        self.echo = self.channel.stream_stream(path + "Echo")
        self.slow = self.channel.unary_stream(path + "Slow")

    def count(self, method, call):
        try:
            call()
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        with self.lock:
            self.counts[f"{method} {code}"] += 1

    def messages(self, count):
        return iter([b"0 0"] * count)

    def one(self, i):
        match i % 10:
            case 3:
                self.count("Unary", lambda: self.unary(b"5 0", **self.more))
            case 4:
                self.count("Unary", lambda: self.unary(b"13 0", **self.more))
            case 5:
                self.count("Collect", lambda: self.collect(self.messages(3), **self.more))
            case 6:
                self.count("Stream", lambda: list(self.stream(b"0 5", **self.more)))
            case 7:
                self.count("Echo", lambda: list(self.echo(self.messages(4), **self.more)))
            case 8:
                self.count("Stream", lambda: list(self.stream(b"10 2", **self.more)))
            case 9:
                self.count("Missing", lambda: self.missing(b"0 0", **self.more))
            case _:
                self.count("Unary", lambda: self.unary(b"0 0", **self.more))

    def cancel(self, _):
        def call():
            slow = self.slow(b"0 0")
            next(slow)
            slow.cancel()
            list(slow)

        self.count("Slow", call)

    def patient(self, _):
        def call():
            slow = self.slow(b"0 0", timeout=10)
            next(slow)
            time.sleep(0.05)
            slow.cancel()
            list(slow)

        self.count("Slow", call)

    def deadline(self, _):
        self.count("Slow", lambda: list(self.slow(b"0 0", timeout=0.15)))

    def long(self, _):
        def call(count=20_000):
            assert sum(1 for _ in self.echo(self.messages(count))) == count

        self.count("Echo", call)

    def drip(self, _):
        def messages():
            for _ in range(600):
                yield b"0 0"
                time.sleep(0.01)

        def call():
            assert sum(1 for _ in self.echo(messages())) == 600

        self.count("Echo", call)

    def churn(self, i):
        # gRPC C-core indexes no metadata of ours, but timeouts that it has not had.
        self.more = {"metadata": [("x-churn", f"{i:0100}")], "timeout": 10 * 1.04 ** (i % 150)}
        self.paced(i)

    def paced(self, i):
        self.one(i)
        time.sleep(0.002)

    def run(self, mode, count):
        run = self.one if mode == "mix" else getattr(self, mode)
        alone = mode in ("long", "drip", "paced", "churn")
        with concurrent.futures.ThreadPoolExecutor(1 if alone else 8) as pool:
            list(pool.map(run, range(count)))
        self.channel.close()
        print(json.dumps(self.counts))


if sys.argv[1] == "server":
    serve(int(sys.argv[2]))
else:
    Client(int(sys.argv[2])).run(sys.argv[3], int(sys.argv[4]))
