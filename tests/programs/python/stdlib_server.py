"""The test services' HTTP API on the standard library's server: `stdlib_server.py PORT`."""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service import Record, body

record = Record()
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body are two writes, which Nagle's algorithm would hold apart by a delayed acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, content=b""):
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and content:
            self.wfile.write(content)
        return status

    def chunked(self, size):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in body(size):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        return 200

    def sized(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            for piece in body(size):
                self.wfile.write(piece)
        return 200

    def upload(self):
        if self.headers["Transfer-Encoding"] == "chunked":
            size = 0
            while left := int(self.rfile.readline(), 16):
                size += left
                self.discard(left)
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = int(self.headers["Content-Length"])
            self.discard(size)
        return self.answer(200, json.dumps({"size": size}).encode())

    def discard(self, left):
        while left:
            left -= len(self.rfile.read(min(left, 65536)))

    def proxy(self, query):
        query = urllib.parse.parse_qs(query)
        try:
            with direct.open(f"http://127.0.0.1:{query['port'][0]}{query['path'][0]}") as answer:
                return self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return self.answer(error.code, error.read())

    def route(self):
        url = urllib.parse.urlsplit(self.path)
        match url.path.split("/")[1:]:
            case ["status", code]:
                return self.answer(int(code))
            case ["delay", ms]:
                time.sleep(float(ms) / 1000)
                return self.answer(200, b"{}")
            case ["upload"]:
                return self.upload()
            case ["bytes", size]:
                return self.sized(int(size))
            case ["chunked", size]:
                return self.chunked(int(size))
            case ["users", user]:
                return self.answer(200, json.dumps({"user": int(user)}).encode())
            case ["proxy"]:
                return self.proxy(url.query)
        return self.answer(404)

    def handle_any(self):
        if self.path == "/counts":
            self.answer(200, json.dumps(record.counts()).encode())
        elif self.path == "/durations":
            self.answer(200, json.dumps(record.durations()).encode())
        else:
            begin = time.perf_counter_ns()
            status = self.route()
            record.add(self.path, status, time.perf_counter_ns() - begin)

    do_GET = do_HEAD = do_POST = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
