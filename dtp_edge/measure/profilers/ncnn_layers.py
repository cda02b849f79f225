"""ncnn built with NCNN_BENCHMARK: one line a layer, as `net.forward` prints it to stderr.

The lines of several calls may follow each other; the median of a layer's times counts, its first not if there
are others.
"""

from __future__ import annotations

import re

import numpy as np

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_LINE = re.compile(r"^(\S+)\s+(\S.*?)\s+(\d+\.\d+)ms(?:\s+\|.*)?$")


def recognises(content: Content) -> bool:
    lines = [line for line in content.lines[:2000] if line.strip()]
    hits = [_LINE.match(line.strip()) for line in lines]
    return sum(hit is not None for hit in hits) > len(lines) / 2 and any("|" in line for line in lines)


def read(content: Content, _: Content | None) -> Printout:
    times: dict[tuple[str, str], list[float]] = {}
    for number, line in enumerate(content.lines, 1):
        if not line.strip():
            continue
        hit = _LINE.match(line.strip())
        if hit is not None:
            times.setdefault((hit[1], hit[2]), []).append(content.number(hit[3], number))
        elif "|" in line or number == len(content.lines):
            raise content.fault("is no layer's line; the file may be cut off", number)
    rows = [PrintedRow((name,), kind, float(np.median(ms[1:] or ms))) for (kind, name), ms in times.items()]
    return Printout(str(content.path), "ncnn", tuple(rows))


READER = Reader(
    title="ncnn layer benchmark (text)",
    made_by="a program built with -DNCNN_BENCHMARK=ON; its stderr",
    fixture="ncnn.txt",
    fixture_from="written from src/benchmark.cpp: its packages are built without NCNN_BENCHMARK",
    recognises=recognises,
    read=read,
)
