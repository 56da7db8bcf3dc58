"""Colour profiles made by hand, so that what they say is known."""

import struct

P3_COLUMNS = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
"""Display-P3's primaries, adapted to D50."""
WHITE = (0.9642, 1.0, 0.8249)


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65_536)) for number in numbers)


def table_curve(gamma: float | None = None, steps: int = 256) -> bytes:
    """Write a curve as a table: sRGB's own, or a power."""
    levels = [at / (steps - 1) for at in range(steps)]
    light = [linear(level) if gamma is None else level**gamma for level in levels]
    values = [round(65_535 * value) for value in light]
    return b"curv\x00\x00\x00\x00" + struct.pack(f">I{steps}H", steps, *values)


def gamma_curve(gamma: float) -> bytes:
    return b"curv\x00\x00\x00\x00" + struct.pack(">IH", 1, round(gamma * 256))


def parametric_curve(kind: int, *numbers: float) -> bytes:
    return b"para\x00\x00\x00\x00" + struct.pack(">HH", kind, 0) + fixed(*numbers)


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def wide_gamut_profile(curve: bytes | None = None) -> bytes:
    """Make a matrix profile of Display-P3's primaries, with sRGB's curve unless told otherwise."""
    curve = table_curve() if curve is None else curve
    xyz = b"XYZ \x00\x00\x00\x00"
    description = b"desc\x00\x00\x00\x00" + struct.pack(">I", 5) + b"wide\x00" + bytes(78)
    tags = {
        b"desc": description,
        b"cprt": b"text\x00\x00\x00\x00wide\x00",
        b"wtpt": xyz + fixed(*WHITE),
        b"rXYZ": xyz + fixed(*P3_COLUMNS[0]),
        b"gXYZ": xyz + fixed(*P3_COLUMNS[1]),
        b"bXYZ": xyz + fixed(*P3_COLUMNS[2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return _profile(b"RGB ", tags)


def grey_profile(curve: bytes) -> bytes:
    """Make a grey profile of a curve."""
    white = b"XYZ \x00\x00\x00\x00" + fixed(*WHITE)
    return _profile(b"GRAY", {b"wtpt": white, b"kTRC": curve})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    head = struct.pack(">I", 128 + len(table) + len(body)) + b"lcms" + b"\x04\x20\x00\x00"
    head += b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(*WHITE)
    return head.ljust(128, b"\x00") + table + body
