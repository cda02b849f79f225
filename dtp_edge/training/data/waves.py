"""Recordings as log-mel pictures: read by soundfile, brought to a rate and transformed by torchaudio."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dtp_edge.errors import InputError
from dtp_edge.files import open_file

__all__ = ["HINT", "Recordings", "check_wave", "read_wave"]

HINT = "DIR/CLASS/*.wav, or DIR/train/CLASS/*.wav with val, test or both beside it."
_MOST_BYTES = 1 << 28
_SHIFT = 0.1  # of the length: how far a recording is moved in training
_QUIET = 1e-6  # added before the logarithm


class Recordings(Dataset):
    """Log-mel energies float32 `[1, frames, mels]`, normalised by `mean` and `std`, and the class.

    A recording is mixed to one channel, brought to the rate, and cut or filled with silence to the length, in
    its middle. `(row, seed)` moves it in time by that seed.
    """

    def __init__(self, files: list[tuple[Path, int]], settings: dict[str, float]) -> None:
        self.files, self.rate = files, int(settings["rate"])
        self.samples = int(settings["seconds"] * self.rate)
        self.mel = _mel(settings, self.samples)
        self.mean, self.std = 0.0, 1.0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, int]:
        row, seed = index if isinstance(index, tuple) else (index, None)
        path, label = self.files[row]
        wave = _fitted(read_wave(path, self.rate), self.samples)
        if seed is not None:
            most = int(_SHIFT * self.samples)
            wave = _moved(wave, int(np.random.default_rng(seed).integers(-most, most + 1)))
        energy = self.mel(wave)[:, : self.frames].T  # [frames, mels]
        return ((energy + _QUIET).log()[None] - self.mean) / self.std, label

    @property
    def frames(self) -> int:
        return 1 + (self.samples - self.mel.n_fft) // self.mel.hop_length

    def normalise(self) -> tuple[float, float]:
        """Take mean and deviation of up to 1,000 recordings, drawn alike whatever the run's seed."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(8))[:1000]
        values = torch.stack([self[int(i)][0] for i in order])
        self.mean, self.std = round(float(values.mean()), 4), round(max(float(values.std()), 1e-3), 4)
        return self.mean, self.std


def read_wave(path: Path, rate: int) -> Tensor:
    """Return one channel of a recording at a rate, float32 `[samples]`. Raises `InputError` with the file."""
    with open_file(path, most_bytes=_MOST_BYTES, hint=HINT) as file:
        try:
            wave, found = _packages()[0].read(file, dtype="float32", always_2d=True)
        except Exception as error:  # libsndfile's own errors
            raise _damaged(path, error) from error
    if not len(wave) or not np.isfinite(wave).all():
        raise InputError("the recording is empty or not finite", where=str(path), hint="Replace it.")
    mixed = torch.from_numpy(wave.mean(1))
    return mixed if found == rate else _resampler(found, rate)(mixed)


def check_wave(path: Path) -> None:
    """Raise `InputError` unless the head of a file says that it is a recording."""
    with open_file(path, most_bytes=_MOST_BYTES, hint=HINT) as file:
        try:
            about = _packages()[0].info(file)
        except Exception as error:
            raise _damaged(path, error) from error
    if about.frames < 1:
        raise InputError("the recording is empty", where=str(path), hint="Replace it, or remove it.")


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"the recording cannot be read ({error})", where=str(path), hint="Replace it, or remove it."
    )


@lru_cache(maxsize=16)  # it makes its filter anew each time else, which takes longer than all the rest
def _resampler(found: int, rate: int) -> Any:
    return _packages()[1].transforms.Resample(found, rate)


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile
        import torchaudio
    except Exception as error:  # a torchaudio built for another torch fails with more than ImportError
        raise InputError(
            f"recordings are read by soundfile and torchaudio, and one cannot be imported ({error})",
            hint='pip install "dtp-edge[audio]"',
        ) from error
    return soundfile, torchaudio


def _mel(settings: dict[str, float], samples: int) -> Any:
    rate = int(settings["rate"])
    window, hop = (max(1, round(settings[name] * rate / 1000)) for name in ("window_ms", "hop_ms"))
    if window > samples or settings["mels"] > window // 2:
        raise InputError(
            f"a window of {window} samples does not fit {samples} samples and {settings['mels']:g} mels",
            where="wavfolder",
            hint="A window is shorter than the recording and has more than twice as many samples as mels.",
        )
    return _packages()[1].transforms.MelSpectrogram(
        rate, n_fft=window, hop_length=hop, n_mels=int(settings["mels"]), center=False
    )


def _fitted(wave: Tensor, samples: int) -> Tensor:
    spare = samples - len(wave)
    if spare <= 0:
        return wave[-spare // 2 :][:samples]
    return torch.nn.functional.pad(wave, (spare // 2, spare - spare // 2))


def _moved(wave: Tensor, by: int) -> Tensor:
    """Move a wave in time, silence moving in."""
    rolled = torch.roll(wave, by)
    (rolled[:by] if by >= 0 else rolled[by:]).zero_()
    return rolled
