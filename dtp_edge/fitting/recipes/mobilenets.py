"""Layer lists of MobileNet V1 and V2 at any width and resolution, from the papers' tables."""

from __future__ import annotations

import re

from dtp_edge.fitting.rows import KernelRow

_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_NAME = re.compile(
    r"mobilenet(?:_?v(?P<version>\d))?(?P<b>b)?_(?:(?P<width>\d\.\d+)_(?P<set>\w+)|[aw](?P<cents>\d{3})_pt)$"
)


def mobilenet_rows(name: str, resolution: int) -> tuple[str, tuple[KernelRow, ...]] | None:
    """Return (family, kernels) of a model of the STM32 zoo such as "mobilenet_v2_0.35_food101"."""
    match = _NAME.match(name)
    if match is None:
        return None
    version = match["version"] or "1"
    width = float(match["width"]) if match["width"] else int(match["cents"]) / 100
    classes = {"food101": 101, "flowers": 5}.get(match["set"] or "", 1000)
    family = f"v{version} {'keras' if match['width'] else 'pt'}"
    build = _v1 if version == "1" else _v2
    return family, tuple(build(width, resolution, classes))


def _conv(key: str, cin: int, cout: int, kernel: int, size: int, stride: int) -> tuple[KernelRow, int]:
    out = -(-size // stride)
    weights = cout * kernel**2 * (1 if key == "depthwise" else cin)
    return KernelRow(key, weights * out**2, cin * size**2 + cout * out**2, weights + cout), out


def _head(cin: int, size: int, classes: int) -> list[KernelRow]:
    pool = KernelRow("pool", 0, cin * size**2 + cin, 0)
    return [pool, KernelRow("linear", cin * classes, cin + classes, cin * classes + classes)]


def _v1(width: float, size: int, classes: int) -> list[KernelRow]:
    channels = int(32 * width)
    row, size = _conv("conv", 3, channels, 3, size, 2)
    rows = [row]
    for base, stride in _V1:
        cout = int(base * width)
        row, size = _conv("depthwise", channels, channels, 3, size, stride)
        rows.append(row)
        row, size = _conv("conv1x1", channels, cout, 1, size, 1)
        rows.append(row)
        channels = cout
    return rows + _head(channels, size, classes)


def _v2(width: float, size: int, classes: int) -> list[KernelRow]:
    channels = _divisible(32 * width)
    row, size = _conv("conv", 3, channels, 3, size, 2)
    rows = [row]
    for expand, base, repeats, first_stride in _V2:
        cout = _divisible(base * width)
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            hidden = channels * expand
            if expand != 1:
                rows.append(_conv("conv1x1", channels, hidden, 1, size, 1)[0])
            row, out = _conv("depthwise", hidden, hidden, 3, size, stride)
            rows += [row, _conv("conv1x1", hidden, cout, 1, out, 1)[0]]
            if stride == 1 and channels == cout:
                rows.append(KernelRow("elementwise", 0, 3 * cout * out**2, 0))
            channels, size = cout, out
    last = 1280 if width <= 1 else _divisible(1280 * width)
    rows.append(_conv("conv1x1", channels, last, 1, size, 1)[0])
    return rows + _head(last, size, classes)


def _divisible(value: float, by: int = 8) -> int:
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded
