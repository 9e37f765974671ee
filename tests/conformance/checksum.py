"""What `hadoop fs -checksum` must say, computed from the bytes alone."""

import hashlib
import struct

CHUNK = 512


def _table():
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def md5_of_chunks(block):
    chunks = (block[at:at + CHUNK] for at in range(0, len(block), CHUNK))
    return hashlib.md5(b"".join(struct.pack(">I", crc32c(chunk)) for chunk in chunks)).digest()


def md5_of_md5(data, block_size):
    """The checksum's hex digits: chunk size, chunks a block (0 if there is one block), MD5 of the blocks' MD5s.

    Hadoop's client has always hashed the whole buffer that it gathers those MD5s in: 32 bytes, doubled as needed.
    """
    blocks = [data[at:at + block_size] for at in range(0, len(data), block_size)]
    digests = b"".join(map(md5_of_chunks, blocks))
    buffer = 32
    while buffer < len(digests):
        buffer *= 2
    chunks = block_size // CHUNK if len(blocks) > 1 else 0
    return (struct.pack(">IQ", CHUNK, chunks) + hashlib.md5(digests.ljust(buffer, b"\0")).digest()).hex()


assert crc32c(b"123456789") == 0xE3069283
