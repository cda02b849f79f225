"""Keyword spotting for an STM32: RAM, flash and latency at once, int8.

    python examples/keyword_spotting_stm32.py --wavs speech_commands --epochs 20 --out runs/kws

--wavs is a folder in Speech Commands' layout, WORD/*.wav, 16 kHz mono. Without it "words" are synthesised
(three tones and noise), which shows the way and says nothing about speech.
"""

from __future__ import annotations

import argparse
import wave
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

import dtp_edge as dtp
from dtp_edge.training import Recipe, from_arrays
from dtp_edge.zoo import create

RATE, WORDS = 16_000, 12


def features(sound: np.ndarray) -> np.ndarray:
    """One second `[16000]` as `[49, 10]` bytes: log energy in ten bands, 40 ms windows every 20 ms."""
    sound = np.pad(sound, (0, max(0, RATE - len(sound))))[:RATE]
    frames = np.lib.stride_tricks.sliding_window_view(sound, 640)[::320][:49] * np.hanning(640)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.geomspace(4, 160, 11).astype(int)  # 100 Hz to 4 kHz
    bands = np.stack([power[:, a : max(b, a + 1)].sum(1) for a, b in pairwise(edges)], 1)
    return np.clip(np.log10(bands + 1e-6) * 25 + 100, 0, 255).astype(np.uint8)


def synthetic(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Words of three tones each, at varying speed, loudness and noise."""
    random = np.random.default_rng(0)
    tones = random.permutation(np.geomspace(150, 3500, 3 * WORDS)).reshape(WORDS, 3)
    labels = random.integers(WORDS, size=count)
    sounds = []
    for label in labels:
        length = int(RATE * random.uniform(0.18, 0.28))
        t = np.arange(length) / RATE
        word = np.concatenate([np.sin(2 * np.pi * f * random.uniform(0.97, 1.03) * t) for f in tones[label]])
        sound = random.normal(scale=1.5, size=RATE)
        start = random.integers(0, RATE - len(word))
        sound[start : start + len(word)] += random.uniform(0.3, 1.0) * word
        sounds.append(features(sound))
    return np.stack(sounds), labels


def recorded(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    words = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("_"))[:WORDS]
    sounds, labels = [], []
    for label, word in enumerate(words):
        for path in sorted(word.glob("*.wav")):
            with wave.open(str(path)) as file:
                raw = np.frombuffer(file.readframes(RATE), dtype="<i2")
            sounds.append(features(raw / 32768))
            labels.append(label)
    return np.stack(sounds), np.array(labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wavs", type=Path)
    parser.add_argument("--count", type=int, default=4000, help="how many words to synthesise")
    parser.add_argument("--device", default="stm32h747-cubeai-int8")
    parser.add_argument("--epochs", type=float, default=8.0)
    parser.add_argument("--out", default="runs/kws")
    options = parser.parse_args()

    x, y = recorded(options.wavs) if options.wavs else synthetic(options.count)
    order, cut = np.random.default_rng(1).permutation(len(x)), len(x) // 5
    images, labels = torch.from_numpy(x[order])[:, None], torch.from_numpy(y[order]).long()
    data = from_arrays("words", (images[cut:], labels[cut:]), (images[:cut], labels[:cut]))
    recipe = replace(Recipe.for_epochs(options.epochs), base_epochs=options.epochs)
    torch.manual_seed(0)
    result = dtp.prune_for_device(
        create("dscnn", num_classes=data.num_classes),
        torch.zeros(1, 1, 49, 10),
        device=options.device,
        budget=dtp.Budget(ram="85%", flash="60%", latency="70%"),
        data=data,
        recipe=recipe,
        out=options.out,
        force=True,
        int8=True,
    )
    found = result.report["accuracy"]
    print(f"accuracy: dense {found['control']:.3f}, pruned {found['pruned']:.3f}, int8 {found['int8']:.3f}")
    print(f"{result.onnx_int8}; open {options.out}/report.html")


if __name__ == "__main__":
    main()
