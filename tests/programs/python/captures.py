"""Writes captures into the folder that is its argument, one for each way to store or cut the same exchange.

Every one holds `GET /item HTTP/1.1` from 192.0.2.1:40000 (IPv6: 2001:db8::1) to 192.0.2.2:8080 (2001:db8::2), answered
with 404. The request's packets come at 1.000001 s and 1.000002 s, the response's at 1.000003 s. Those in the folder
`three` hold it three times, a second apart; in `nineteen`, twenty times, of which the first cannot be proved.
"""

import gzip
import struct
import sys
from pathlib import Path

REQUEST = b"GET /item HTTP/1.1\r\nHost: shop.example\r\n\r\n"
RESPONSE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
SECOND = 1_000_000_000
MICRO = 1_000
FIN, SYN, RESET, PUSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def tcp(up, sequence, acknowledged, flags, payload=b""):
    ports = (40000, 8080) if up else (8080, 40000)
    numbers = (sequence & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF)
    return struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 65535, 0, 0) + payload


def segments(first=1000, second=9000, end=True):
    """(time, whether it goes up, segment) of the exchange, in the order of the wire."""
    up, down = first + 1, second + 1
    half = 10
    answered = up + len(REQUEST)
    closed = down + len(RESPONSE)
    opening = [
        (0, True, tcp(True, first, 0, SYN)),
        (0, False, tcp(False, second, up, SYN | ACK)),
        (0, True, tcp(True, up, down, ACK)),
    ]
    data = [
        (1, True, tcp(True, up, down, PUSH | ACK, REQUEST[:half])),
        (2, True, tcp(True, up + half, down, PUSH | ACK, REQUEST[half:])),
        (3, False, tcp(False, down, answered, PUSH | ACK, RESPONSE)),
    ]
    ending = [
        (4, True, tcp(True, answered, closed, FIN | ACK)),
        (5, False, tcp(False, closed, answered + 1, FIN | ACK)),
        (6, True, tcp(True, answered + 1, closed + 1, ACK)),
    ]
    return opening + data + ending * end


def summed(segment, ends):
    """With the checksum of TCP (RFC 9293, section 3.1)."""
    pseudo = b"".join(ends) + struct.pack("!II", len(segment), 6)
    return segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]


IP4 = [bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])]
IP6 = [bytes.fromhex("20010db8" + "0" * 23 + digit) for digit in "12"]


def ip4(up, segment, fragment=0, identification=7, protocol=6):
    source, destination = IP4 if up else IP4[::-1]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), identification, fragment, 64, protocol, 0)
    head += source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + segment


def ip4_fragments(up, segment):
    """In two, of which the second comes first."""
    return [ip4(up, segment[24:], 3), ip4(up, segment[:24], 0x2000)] if len(segment) > 32 else [ip4(up, segment)]


def ip6(up, payload, following=6):
    source, destination = IP6 if up else IP6[::-1]
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + source + destination + payload


def ip6_options(up, segment):
    """Hop-by-hop options and destination options, of padding."""
    padding = b"\x01\x04\0\0\0\0"
    return ip6(up, bytes([60, 0]) + padding + bytes([6, 0]) + padding + segment, 0)


def ip6_fragments(up, segment):
    if len(segment) <= 32:
        return [ip6(up, segment)]
    head = lambda offset, more: struct.pack("!BBHI", 6, 0, offset | more, 99)
    return [ip6(up, head(0, 1) + segment[:24], 44), ip6(up, head(24, 0) + segment[24:], 44)]


def ethernet(packet, tags=b""):
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0"
    return b"\2\0\0\0\0\1\2\0\0\0\0\2" + tags + kind + packet


def time(tick):
    return SECOND + tick * MICRO


def frames(link=ethernet, ip=ip4, exchange=None):
    packets = []
    for tick, up, segment in exchange or segments():
        pieces = ip(up, summed(segment, IP6 if ip in (ip6, ip6_options, ip6_fragments) else IP4))
        packets += [(time(tick), link(piece)) for piece in (pieces if isinstance(pieces, list) else [pieces])]
    return packets


def pcap(packets, link=1, order="<", nano=False, snap=65535):
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    unit = 1 if nano else 1000
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)
    for at, data in packets:
        kept = data[:snap]
        out += struct.pack(order + "IIII", at // SECOND, at % SECOND // unit, len(kept), len(data)) + kept
    return out


def block(order, kind, body):
    body += b"\0" * (-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order="<"):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order="<", link=1, options=b""):
    return block(order, 1, struct.pack(order + "HHI", link, 0, 0) + options)


def enhanced(packets, order="<", unit=1000, number=0, offset=0):
    out = b""
    for at, data in packets:
        stamp = (at - offset * SECOND) // unit
        head = struct.pack(order + "IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        comment = struct.pack(order + "HH", 1, 4) + b"note" + struct.pack(order + "HH", 0, 0)
        out += block(order, 6, head + data + b"\0" * (-len(data) % 4) + comment)
    return out


def obsolete(packets, order="<"):
    out = b""
    for at, data in packets:
        stamp = at // 1000
        out += block(order, 2, struct.pack(order + "HHIIII", 0, 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data)) + data)
    return out


def cooked1(packet):
    return struct.pack("!HHH8s", 0, 1, 6, b"\2") + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + packet


def cooked2(packet):
    return (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + struct.pack("!HIHBB8s", 0, 1, 1, 0, 6, b"\2") + packet


def swapped(exchange, one, other):
    exchange[one], exchange[other] = exchange[other], exchange[one]
    # Packets come in the order of their times.
    return [(tick, up, segment) for (tick, _, _), (_, up, segment) in zip(segments(), exchange)]


def overlapping():
    exchange = segments()
    exchange.insert(5, (2, True, tcp(True, 1001 + 5, 9001, PUSH | ACK, REQUEST[5:15])))
    return exchange


def joined(exchanges):
    """Nothing of the beginning is there. The first response may be that of an older request, so that exchange is not
    reported; that the others are in order, their turns prove."""
    packets = []
    for number in range(-1, exchanges - 1):
        first, second = 1000 + number * len(REQUEST), 9000 + number * len(RESPONSE)
        exchange = segments(first, second, number == exchanges - 2)[3:]
        packets += [(tick + number * SECOND // MICRO, up, segment) for tick, up, segment in exchange]
    return packets


def ports_again(*endings):
    """Three connections on the same ports, each with initial sequence numbers and an ending of its own."""
    packets = []
    for number, (first, second, ending) in enumerate(zip((1000, 70000, 500), (9000, 20, 4_000_000_000), endings)):
        exchange = segments(first, second, ending == "fin")
        if ending == "reset":
            exchange.append((4, True, tcp(True, first + 1 + len(REQUEST), second + 1 + len(RESPONSE), RESET | ACK)))
        packets += [(at + number * SECOND, data) for at, data in frames(exchange=exchange)]
    return packets


def others():
    """The exchange, and between its packets some of other protocols: 2 of UDP, one each of ICMP, SCTP, ARP and LLDP."""
    between = [ethernet(ip4(True, bytes(16), protocol=number)) for number in (17, 17, 1, 132)]
    between += [b"\2" * 12 + kind + bytes(28) for kind in (b"\x08\x06", b"\x88\xcc")]
    return [packet for pair in zip(plain, [(at, data) for (at, _), data in zip(plain, between)]) for packet in pair] + plain[6:]


plain = frames()
tick = struct.pack("<HHBxxxHH", 9, 1, 9, 0, 0)
late = struct.pack("<HHBxxxHHqHH", 9, 1, 6, 14, 8, -100, 0, 0)
files = {
    "pcap-micro-little": pcap(plain),
    "pcap-micro-big": pcap(plain, order=">"),
    "pcap-nano-little": pcap(plain, nano=True),
    "pcap-nano-big": pcap(plain, order=">", nano=True),
    "pcapng-little": section() + interface() + enhanced(plain),
    "pcapng-big": section(">") + interface(">") + enhanced(plain, ">"),
    "pcapng-nano": section() + interface(options=tick) + enhanced(plain, unit=1),
    "pcapng-offset": section() + interface(options=late) + enhanced(plain, offset=-100),
    "pcapng-obsolete": section() + interface() + obsolete(plain),
    "pcapng-two-sections": section() + interface() + enhanced(plain[:4]) + section(">") + interface(">") + enhanced(plain[4:], ">"),
    "pcapng-two-interfaces": section() + interface(link=113) + interface() + enhanced(plain, number=1),
    "pcapng-unknown-block": section() + block("<", 0x0BAD, b"what is it") + interface() + enhanced(plain),
    "vlan": pcap(frames(lambda packet: ethernet(packet, b"\x81\0\0\x05"))),
    "qinq": pcap(frames(lambda packet: ethernet(packet, b"\x88\xa8\0\x06\x81\0\0\x05"))),
    "cooked": pcap(frames(cooked1), 113),
    "cooked2": pcap(frames(cooked2), 276),
    "raw-101": pcap(frames(bytes), 101),
    "raw-12": pcap(frames(bytes), 12),
    "raw-228": pcap(frames(bytes), 228),
    "raw-229-6": pcap(frames(bytes, ip6), 229),
    "null": pcap(frames(lambda packet: struct.pack("<I", 2) + packet), 0),
    "null-big": pcap(frames(lambda packet: struct.pack(">I", 2) + packet), 0, ">"),
    "loop": pcap(frames(lambda packet: struct.pack(">I", 2) + packet), 108),
    "ip4-fragments": pcap(frames(ip=ip4_fragments)),
    "ip6": pcap(frames(ip=ip6)),
    "ip6-options-6": pcap(frames(ip=ip6_options)),
    "ip6-fragments-6": pcap(frames(ip=ip6_fragments)),
    "reordered": pcap(frames(exchange=swapped(segments(), 3, 4))),
    "retransmitted": pcap(frames(exchange=segments()[:5] + segments()[3:])),
    "overlapping": pcap(frames(exchange=overlapping())),
    "without-fin": pcap(frames(exchange=segments(end=False))),
    "without-syn": pcap(frames(exchange=segments()[1:])),
    "snapped": pcap(plain, snap=len(plain[5][1]) - 2),
    "others": pcap(others()),
    "wrapping": pcap(frames(exchange=segments(0xFFFFFFF0, 0xFFFFFFFA))),
    # Not whole: the status to expect goes before the name.
    "cut-in-packet.3": pcap(plain + [(time(9), b"x" * 60)])[:-7],
    "cut-in-header.3": pcap(plain) + b"\0" * 9,
    "cut-pcapng.3": (section() + interface() + enhanced(plain) + enhanced(plain[:1]))[:-9],
}
empty = {
    "missing-segment.0": pcap(frames(exchange=segments()[:3] + segments()[4:])),
    "one-direction.0": pcap([packet for packet, (_, up, _) in zip(plain, segments()) if up]),
    "no-capture.1": b"This is no capture, but some text that is longer than the header of one would be.",
    "nothing.1": b"",
    "no-packets.0": pcap([]),
    "joined-too-few.0": pcap(frames(exchange=joined(3))),
    "joined-unfinished.0": pcap(frames(exchange=segments()[3:6])),
    "other-link.0": pcap(plain, 147),
    "short-header.3": pcap([])[:11],
    "short-section.3": section()[:13],
    "gzip.1": gzip.compress(pcap(plain)),
}
three = {
    "ports-again": pcap(ports_again("fin", "fin", "fin")),
    "ports-again-after-reset": pcap(ports_again("reset", "reset", "reset")),
    "ports-again-after-nothing": pcap(ports_again("none", "none", "none")),
    "ports-again-after-each": pcap(ports_again("none", "reset", "fin")),
}
nineteen = {"joined": pcap(frames(exchange=joined(20)))}
folder = Path(sys.argv[1])
for kind, captures in [("one", files), ("none", empty), ("three", three), ("nineteen", nineteen)]:
    (folder / kind).mkdir()
    for name, content in captures.items():
        (folder / kind / name).write_bytes(content)
