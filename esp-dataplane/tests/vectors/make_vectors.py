#!/usr/bin/python3
"""Writes esp.txt: ESP packets made by scapy (Debian: python3-scapy), an implementation that
shares no code with ours. Deterministic: run it again and the file does not change.

    /usr/bin/python3 make_vectors.py > esp.txt

One packet per line: suite, "esn" or "32", 64-bit sequence number, SPI, encryption key (with
salt), integrity key or "-", inner packet, ESP packet; numbers and bytes in hex.

scapy 2.5 does not authenticate the high half of an ESN with a separate integrity transform, so
for those packets scapy encrypts, and the ICV is computed here as RFC 4303 section 2.2.1 says.
"""

import hashlib
import hmac

from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

HASHES = {
    "md5": ("HMAC-MD5-96", hashlib.md5, 16, 12),
    "sha1": ("HMAC-SHA1-96", hashlib.sha1, 20, 12),
    "sha256": ("SHA2-256-128", hashlib.sha256, 32, 16),
    "sha384": ("SHA2-384-192", hashlib.sha384, 48, 24),
    "sha512": ("SHA2-512-256", hashlib.sha512, 64, 32),
}
SPI = 0xC0DE1234


def stream(label, length):
    """Bytes that look random and are the same every time."""
    return hashlib.shake_128(label.encode()).digest(length)


def suites():
    """Name, cipher of scapy, length of its key with the salt, length of its IV, hash."""
    for bits in (128, 192, 256):
        yield f"aes{bits}gcm16", "AES-GCM", bits // 8 + 4, 8, None
        for name in HASHES:
            yield f"aes{bits}-{name}", "AES-CBC", bits // 8, 16, name
    for name in HASHES:
        yield f"3des-{name}", "3DES", 24, 8, name


def inner_packets():
    for size in (0, 1, 2, 3, 13, 14, 15, 16, 100, 500):
        yield IP(src="10.1.0.1", dst="10.2.0.2", id=size, flags="DF") / UDP(
            sport=4000, dport=53
        ) / Raw(stream(f"data{size}", size))
    yield IP(src="10.1.0.1", dst="10.2.0.2") / TCP(sport=40000, dport=443, flags="PA", seq=7) / Raw(b"hello")
    yield IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=4000, dport=53) / Raw(stream("six", 77))


def seal(cipher, iv_len, hash_name, esn, seq, keys, packet, number):
    encryption, integrity = keys
    outer = IP(src="203.0.113.1", dst="198.51.100.7")
    high, low = seq >> 32, seq & 0xFFFFFFFF
    if hash_name is None:
        sa = SecurityAssociation(
            ESP, spi=SPI, crypt_algo=cipher, crypt_key=encryption, tunnel_header=outer
        )
        # member 1, epoch 0x0123, counter: the form of the IVs that the gateway uses.
        iv = (1 << 63 | 0x0123 << 48 | number).to_bytes(8, "big")
        sealed = sa.encrypt(packet, seq_num=low, iv=iv, esn_en=esn, esn=high)
        return raw(sealed[ESP])
    algo, digest, _, icv_len = HASHES[hash_name]
    sa = SecurityAssociation(
        ESP,
        spi=SPI,
        crypt_algo=cipher,
        crypt_key=encryption,
        auth_algo="NULL" if esn else algo,
        auth_key=None if esn else integrity,
        tunnel_header=outer,
    )
    sealed = raw(sa.encrypt(packet, seq_num=low, iv=stream(f"iv{number}", iv_len))[ESP])
    if esn:
        mac = hmac.new(integrity, sealed + high.to_bytes(4, "big"), digest)
        sealed += mac.digest()[:icv_len]
    return sealed


def main():
    for suite, cipher, key_len, iv_len, hash_name in suites():
        integrity_len = 0 if hash_name is None else HASHES[hash_name][2]
        keys = (stream("enc" + suite, key_len), stream("int" + suite, integrity_len))
        for esn in (False, True):
            # With ESN the high half counts: start in the third subspace of 2^32 numbers.
            first = (2 << 32) + 5 if esn else 1
            for number, packet in enumerate(inner_packets()):
                seq = first + number
                sealed = seal(cipher, iv_len, hash_name, esn, seq, keys, packet, number)
                print(
                    suite,
                    "esn" if esn else "32",
                    f"{seq:x}",
                    f"{SPI:x}",
                    keys[0].hex(),
                    keys[1].hex() or "-",
                    raw(packet).hex(),
                    sealed.hex(),
                )


main()
