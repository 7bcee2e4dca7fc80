#!/usr/bin/env python3
"""Makes the HPACK vectors beside it, with encoders that are none of ours.

    python3 -m venv VENV && VENV/bin/pip install hpack
    VENV/bin/python generate.py python-hpack > python-hpack.json
    VENV/bin/python generate.py nghttp2 > nghttp2.json       # needs libnghttp2.so.14

The header lists are the same for all; `table_sizes` are (block, size): before that block, the encoder is told
that its peer allows a table of that size.
"""
import ctypes
import json
import random
import sys


def header_lists():
    rng = random.Random(7541)
    paths = ["/", "/users/17", "/orders?id=9&x=%20", "/pkg.Service/Method", "/" + "long/" * 40, "/caf\u00e9"]
    agents = ["grpc-python/1.85 grpc-c/53", "curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64)"]
    lists = []
    for n in range(26):
        if n % 7 == 6:
            lists.append([("grpc-status", str(rng.randrange(17))), ("grpc-message", "m" * rng.randrange(30))])
        elif n % 3 == 2:
            lists.append([
                (":status", rng.choice(["200", "204", "404", "503", "100"])),
                ("content-type", rng.choice(["application/grpc", "text/html"])),
                ("date", "Mon, 21 Oct 2013 20:13:%02d GMT" % n),
                ("set-cookie", "s=%x; path=/" % rng.getrandbits(64)),
            ])
        else:
            fields = [
                (":method", rng.choice(["GET", "POST", "PUT", "DELETE"])),
                (":scheme", rng.choice(["http", "https"])),
                (":path", rng.choice(paths)),
                (":authority", rng.choice(["a.example", "127.0.0.1:8080"])),
                ("user-agent", rng.choice(agents)),
                ("traceparent", "00-%032x-%016x-01" % (rng.getrandbits(128), rng.getrandbits(64))),
                ("cookie", "c=" + "x" * rng.choice([0, 5, 300])),
                ("x-request-id", "%x" % rng.getrandbits(60)),
                ("x-note", rng.choice(["\\^_`{|}~", "a, b", "\t\u00a0\u00ff"])),
            ]
            if n == 9:
                fields.append(("x-huge", "y" * 4100))
            lists.append(fields)
    return lists


TABLE_SIZES = [
    [],
    [(0, 0)],
    [(0, 64)],
    [(0, 200)],
    [(0, 1024)],
    [(0, 65536)],
    [(5, 100), (11, 4096)],
    [(4, 0), (4, 4096), (14, 300), (20, 0), (24, 512)],
]


def latin(text):
    return text.encode("latin-1")


class Python:
    def __init__(self):
        from hpack import Encoder

        self.encoder = Encoder()

    def resize(self, size):
        self.encoder.header_table_size = size

    def encode(self, fields):
        return self.encoder.encode([(latin(n), latin(v)) for n, v in fields])


class Nv(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_char_p),
        ("namelen", ctypes.c_size_t),
        ("valuelen", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    ]


class Nghttp2:
    def __init__(self):
        self.lib = ctypes.CDLL("libnghttp2.so.14")
        self.lib.nghttp2_hd_deflate_hd.restype = ctypes.c_ssize_t
        self.lib.nghttp2_hd_deflate_hd.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
        self.lib.nghttp2_hd_deflate_change_table_size.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.deflater = ctypes.c_void_p()
        assert self.lib.nghttp2_hd_deflate_new(ctypes.byref(self.deflater), ctypes.c_size_t(65536)) == 0
        self.resize(4096)

    def resize(self, size):
        assert self.lib.nghttp2_hd_deflate_change_table_size(self.deflater, size) == 0

    def encode(self, fields):
        pairs = [(latin(n), latin(v)) for n, v in fields]
        array = (Nv * len(pairs))(*[Nv(n, v, len(n), len(v), 0) for n, v in pairs])
        buffer = ctypes.create_string_buffer(65536)
        length = self.lib.nghttp2_hd_deflate_hd(self.deflater, buffer, len(buffer), array, len(pairs))
        assert length >= 0
        return buffer.raw[:length]


def main():
    encoder_class = {"python-hpack": Python, "nghttp2": Nghttp2}[sys.argv[1]]
    connections = []
    for sizes in TABLE_SIZES:
        encoder = encoder_class()
        wires = []
        for n, fields in enumerate(header_lists()):
            for at, size in sizes:
                if at == n:
                    encoder.resize(size)
            wires.append(encoder.encode(fields).hex())
        connections.append({"table_sizes": sizes, "wires": wires})
    lines = [json.dumps(part) for part in (header_lists(), *connections)]
    print('{"headers": %s,\n"connections": [\n%s\n]}' % (lines[0], ",\n".join(lines[1:])))


main()
