#!/usr/bin/python3
"""Writes the seed corpus of esp_open: one small input per way through the opener."""

import pathlib
import struct

RAW, RAW_OUR_SPI, GCM, CBC, NARROW = 0, 1, 2, 3, 4


def ipv4(payload, proto=17, fragment=0, tos=0, extra=0):
    length = 20 + len(payload) + extra
    return (
        struct.pack("!BBHHHBBH", 0x45, tos, length, 1, fragment, 64, proto, 0)
        + bytes([10, 1, 0, 1, 10, 2, 0, 2])
        + payload
    )


def ipv6(payload, next_header=17):
    address = bytes([0xFD] + [0] * 14)
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 64) + address + b"\1" + address + b"\2" + payload


def body(inner, next_header, align, pad_len=None, pad=None):
    count = -(len(inner) + 2) % align
    padding = bytes(range(1, count + 1)) if pad is None else pad
    return inner + padding + bytes([len(padding) if pad_len is None else pad_len, next_header])


UDP = struct.pack("!HHHH", 4000, 53, 12, 0) + b"data"
bodies = {
    "ipv4": lambda a: body(ipv4(UDP), 4, a),
    "ipv4-ect": lambda a: body(ipv4(UDP, tos=2), 4, a),
    "ipv4-fragment": lambda a: body(ipv4(UDP, fragment=9), 4, a),
    "ipv4-too-long": lambda a: body(ipv4(UDP, extra=1), 4, a),
    "ipv4-tfc": lambda a: body(ipv4(UDP) + bytes(40), 4, a),
    "ipv4-as-ipv6": lambda a: body(ipv4(UDP), 41, a),
    "ipv6": lambda a: body(ipv6(UDP), 41, a),
    "ipv6-extensions": lambda a: body(
        ipv6(bytes([60, 0, 1, 4, 0, 0, 0, 0]) + bytes([44, 0, 1, 4, 0, 0, 0, 0]) + bytes([17, 0, 0, 1, 0, 0, 0, 7]) + UDP, 0),
        41,
        a,
    ),
    "dummy": lambda a: body(b"", 59, a),
    "unknown-next-header": lambda a: body(UDP, 17, a),
    "zero-padding": lambda a: body(ipv4(UDP + b"xyz"), 4, a, pad=bytes(-(20 + 12 + 3 + 2) % a)),
    "pad-length": lambda a: body(ipv4(UDP), 4, a, pad_len=255),
    "empty": lambda a: bytes(a),
}


def main():
    here = pathlib.Path(__file__).parent / "corpus" / "esp_open"
    for old in here.glob("seed-*"):
        old.unlink()
    for name, build in bodies.items():
        for kind, label, align in ((GCM, "gcm", 4), (CBC, "cbc", 16)):
            (here / f"seed-{label}-{name}").write_bytes(bytes([kind, 3]) + build(align))
            (here / f"seed-{label}-narrow-{name}").write_bytes(bytes([kind | NARROW, 0]) + build(align))
    for suite in range(15):
        datagram = struct.pack("!II", 0x1000, 1) + bytes(range(120))
        (here / f"seed-raw-{suite}").write_bytes(bytes([RAW_OUR_SPI, suite]) + datagram)
    (here / "seed-raw-short").write_bytes(bytes([RAW, 0, 0, 0, 16]))
    (here / "seed-raw-reserved").write_bytes(bytes([RAW, 0]) + struct.pack("!II", 255, 1))


main()
