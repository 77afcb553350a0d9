"""Mutations of input files: each returns other bytes, chosen by a generator. Text, JSON, safetensors and plain bytes."""
from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]

# Numbers at the edges of what a field can hold, as a person or a broken script writes them.
NUMBERS = ["0", "-1", "1", "2", "3", "7", "127", "128", "255", "256", "65536", "2147483647", "2147483648", "-2147483648",
           "4294967295", "4294967296", "4294967300", "9007199254740993", "9223372036854775807", "9223372036854775808",
           "-9223372036854775808", "18446744073709551615", "99999999999999999999", "0.5", "-0.0", "1e-300", "1e39", "1e300",
           "1e400", "nan", "NaN", "inf", "-inf", "Infinity", "1_000", "1,5", "0x10", "010", "+5", "5.", ".5", "1e", "--3", ""]
WORDS = ["", " ", "\0", "\n", "\r\n", "\t", "\\", "\"", "'", "{", "}", "[", "]", ":", ",", "#", "%s%n", "../../etc/passwd",
         "/dev/zero", "/dev/full", "~", "true", "false", "null", "None", "\ufeff", "\u2028", "é", "\U0001f600", "e\u0301",
         "\ud7ff", "A" * 300, "x" * 70000, "{" * 5000, "[" * 20000, "(" * 100, "-", "--", "=", "a=b", "%", "*", "$HOME", "`id`"]
BYTES = [b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r",
         b"\x1b[2J", b"\x7f"]
INTEGERS = [0, 1, -1, 2, 127, 255, 65535, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1,
            -(1 << 63)]


def Range(data: bytes, choose: random.Random, longest: int = 64) -> tuple[int, int]:
    begin = choose.randrange(len(data) + 1)
    return begin, min(len(data), begin + choose.randrange(1, longest))


def FlipBit(data: bytes, choose: random.Random) -> bytes:
    if not data:
        return b"\1"
    place = choose.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << choose.randrange(8)]) + data[place + 1:]


def SetByte(data: bytes, choose: random.Random) -> bytes:
    begin, _ = Range(data, choose)
    return data[:begin] + bytes([choose.randrange(256)]) + data[begin + 1:]


def Insert(data: bytes, choose: random.Random) -> bytes:
    begin, _ = Range(data, choose)
    return data[:begin] + choose.choice([choose.randbytes(choose.randrange(1, 9)), choose.choice(BYTES)]) + data[begin:]


def Delete(data: bytes, choose: random.Random) -> bytes:
    begin, end = Range(data, choose)
    return data[:begin] + data[end:]


def Duplicate(data: bytes, choose: random.Random) -> bytes:
    begin, end = Range(data, choose, 200)
    return data[:end] + data[begin:end] * choose.choice([1, 1, 2, 50]) + data[end:]


def Truncate(data: bytes, choose: random.Random) -> bytes:
    return data[:choose.randrange(len(data) + 1)]


def ZeroRange(data: bytes, choose: random.Random) -> bytes:
    begin, end = Range(data, choose, 512)
    return data[:begin] + bytes(end - begin) + data[end:]


def Append(data: bytes, choose: random.Random) -> bytes:
    return data + choose.randbytes(choose.choice([1, 4, 8, 512]))


def SetInteger(data: bytes, choose: random.Random) -> bytes:
    """A number of 4 or 8 bytes, mostly where a header has its own."""
    size = choose.choice([4, 8])
    place = choose.randrange(min(64, len(data) + 1)) if choose.random() < 0.7 else choose.randrange(len(data) + 1)
    value = choose.choice(INTEGERS) & ((1 << 8 * size) - 1)
    return data[:place] + value.to_bytes(size, "little") + data[place + size:]


PLAIN: list[Mutation] = [FlipBit, FlipBit, SetByte, Insert, Delete, Duplicate, Truncate, ZeroRange, Append]
BINARY: list[Mutation] = PLAIN + [SetInteger] * 5


def Number(choose: random.Random) -> str:
    """At an edge, or small as sizes of a model and a cluster are."""
    kind = choose.random()
    if kind < 0.4:
        return choose.choice(NUMBERS)
    return str(choose.choice([1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64])) if kind < 0.8 else f"{choose.random() * 2:.3g}"


def SetNumber(data: bytes, choose: random.Random) -> bytes:
    numbers = list(re.finditer(rb"(?<![A-Za-z_])[-+]?\d[\d.eE+-]*", data))
    if not numbers:
        return Insert(data, choose)
    number = choose.choice(numbers)
    return data[:number.start()] + Number(choose).encode() + data[number.end():]


def SetWord(data: bytes, choose: random.Random) -> bytes:
    words = list(re.finditer(rb"[A-Za-z_][\w./-]*", data))
    if not words:
        return Insert(data, choose)
    word, other = choose.choice(words), choose.choice(words)
    new = choose.choice([other[0], choose.choice(WORDS).encode("utf-8", "surrogatepass"), word[0] + b"x", word[0].upper()])
    return data[:word.start()] + new + data[word.end():]


def MoveLine(data: bytes, choose: random.Random) -> bytes:
    lines = data.split(b"\n")
    line = choose.choice(lines)
    if choose.random() < 0.5:
        lines.remove(line)
    if choose.random() < 0.7:
        lines.insert(choose.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def InsertWord(data: bytes, choose: random.Random) -> bytes:
    begin, _ = Range(data, choose)
    return data[:begin] + choose.choice(WORDS + NUMBERS).encode("utf-8", "surrogatepass") + data[begin:]


TEXT: list[Mutation] = PLAIN[:7] + [SetNumber] * 6 + [SetWord] * 3 + [MoveLine, MoveLine, InsertWord]

JSON_VALUES: list[object] = [None, True, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -2**63, 2**64, 1.5, 1e308, float("nan"),
                             float("inf"), "", "x", "é", "\0", "9", "../x", [], {}, [0, 1], [[]], {"step": 1}, "A" * 500]


def Places(node: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in Places(child, (*path, key)))]


def ChangeJson(document: object, choose: random.Random) -> object:
    """One value becomes another, is removed, or gets another key."""
    path = choose.choice(Places(document))
    if not path:
        return choose.choice(JSON_VALUES)
    holder = document
    for key in path[:-1]:
        holder = holder[key]  # type: ignore[index]
    key, kind = path[-1], choose.randrange(6)
    if kind == 0:
        del holder[key]  # type: ignore[attr-defined]
    elif kind == 1 and isinstance(holder, dict):
        other = choose.choice([str(key) + "x", "", "__metadata__", choose.choice(list(holder))])
        holder[other] = holder.pop(key)
    else:
        holder[key] = choose.choice(JSON_VALUES)  # type: ignore[index]
    return document


def Json(data: bytes, choose: random.Random) -> bytes:
    try:
        return json.dumps(ChangeJson(json.loads(data), choose)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return FlipBit(data, choose)


JSON: list[Mutation] = [Json] * 8 + TEXT


def JsonLine(data: bytes, choose: random.Random) -> bytes:
    lines = data.split(b"\n")
    i = choose.randrange(len(lines))
    lines[i] = choose.choice([Json, Json, *TEXT])(lines[i], choose)
    return b"\n".join(lines)


def SplitTensors(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:8], "little")
    return data[8:8 + size], data[8 + size:]


def TensorHeader(data: bytes, choose: random.Random) -> bytes:
    header, numbers = SplitTensors(data)
    header = choose.choice([Json, Json, Json, SetNumber, SetNumber, FlipBit, SetWord])(header, choose)
    return struct.pack("<Q", len(header)) + header + numbers


def TensorNumber(data: bytes, choose: random.Random) -> bytes:
    """A number that is none, or is very large, in a tensor."""
    header, numbers = SplitTensors(data)
    if len(numbers) < 4:
        return Append(data, choose)
    place = choose.randrange(len(numbers) // 4) * 4
    value = struct.pack("<f", choose.choice([float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-40]))
    return data[:8] + header + numbers[:place] + value + numbers[place + 4:]


TENSORS: list[Mutation] = [TensorHeader] * 5 + [TensorNumber] * 3 + BINARY
LINES: list[Mutation] = [JsonLine] * 4 + TEXT
