"""Words: ten commands spoken by Debian's espeak-ng in many voices, speeds and pitches, with noise.

    apt-get install espeak-ng
    python -m benchmarks.composed.words --out /tmp/words        # 3,000 recordings of some 0.7 s, 16-bit WAV

Spoken by a machine, not by people: what is true of these words need not be true of a microphone's. The
voices of the test part are none of those of the training part. Read it by `wavfolder:OUT`.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import wave
from pathlib import Path

import numpy as np

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
_VOICES = {
    "train": ("m1", "m2", "m3", "m4", "f1", "f2", "f3", "klatt2", "croak"),
    "val": ("m5", "f4"),
    "test": ("m6", "m7", "f5", "klatt4"),
}
_SAME = 22_050  # what espeak-ng writes


def spoken(word: str, rng: np.random.Generator, voices: tuple[str, ...]) -> np.ndarray:
    """Return one recording, float in -1..1: voice, speed (words a minute), pitch and noise are drawn."""
    voice = f"{rng.choice(_ACCENTS)}+{rng.choice(voices)}"
    options = {"-v": voice, "-s": rng.integers(100, 241), "-p": rng.integers(15, 86), "-g": 0}
    command = ["espeak-ng", *(str(v) for pair in options.items() for v in pair), "--stdout", word]
    done = subprocess.run(command, capture_output=True, check=True)
    with wave.open(io.BytesIO(done.stdout)) as file:
        if file.getframerate() != _SAME or file.getsampwidth() != 2:
            raise SystemExit("espeak-ng wrote another format than 16 bits at 22,050 Hz")
        found = np.frombuffer(file.readframes(1 << 24), np.int16).astype(np.float64) / 32768
    loud = np.abs(found) > 0.02
    found = found[loud.argmax() : len(found) - loud[::-1].argmax()]
    spare = rng.integers(0, _SAME // 5, 2)
    found = np.pad(found, spare)
    power = np.sqrt((found**2).mean())
    return _noisy(found / max(power, 1e-6) * 10 ** rng.uniform(-1.6, -0.9), rng)


def _noisy(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise whose power falls with its pitch (between white and brown), 0 to 25 dB below the word."""
    spectrum = np.fft.rfft(rng.normal(size=len(clean)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(clean))
    share = np.sqrt((clean**2).mean() / (noise**2).mean()) * 10 ** (-rng.uniform(0, 25) / 20)
    return np.clip(clean + share * noise, -1, 1)


def write(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write `SPLIT/WORD/NUMBER.wav`, so many of each word; return the folder."""
    for number, (split, count) in enumerate(counts.items()):
        for w, word in enumerate(WORDS):
            place = folder / split / word
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                samples = spoken(word, np.random.default_rng((seed, number, w, i)), _VOICES[split])
                with wave.open(str(place / f"{i:04}.wav"), "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(_SAME)
                    file.writeframes((samples * 32767).astype("<i2").tobytes())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=200, help="recordings of each word to train on")
    parser.add_argument("--test", type=int, default=50, help="of each word in val and in test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(write(args.out, {"train": args.train, "val": args.test, "test": args.test}, args.seed))


if __name__ == "__main__":
    main()
