"""transformers:FOLDER, transformers:CONFIG.json or transformers:TYPE; nothing is downloaded.

`:TASK` behind it says which head, as the part behind `AutoModelFor`: transformers:bert:TokenClassification.
Without it a folder's own architecture is built, of a TYPE the body alone. Weights are read where the folder
has a `model.safetensors`; pickles are not, and no code of the folder is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dtp_edge.errors import InputError, first_line
from dtp_edge.zoo.sources.network_source import Source, optional, unknown

EXTRA = "transformers"
TOKENS, SAMPLES = 128, 16_000  # a sequence, a second of sound
WEIGHTS = "model.safetensors"


def find(name: str, _channels: int | None, shape: tuple[int, ...] | None) -> Source:
    """Return a network of transformers with inputs by keyword, as it is called."""
    library = optional("transformers", "transformers", EXTRA)
    place, _, task = name.partition(":")
    config, folder = _config(library, place)
    kind = _kind(library, config, task, name)
    weights = folder is not None and any(folder.glob("model*.safetensors"))

    def build(classes: int | None) -> nn.Module:
        if classes is not None:
            config.num_labels = classes
        if not weights or folder is None:
            return kind(config) if hasattr(kind, "config_class") else kind.from_config(config)
        options = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        try:
            return kind.from_pretrained(folder, config=config, ignore_mismatched_sizes=True, **options)
        except Exception as error:  # whatever a reader of damaged files raises
            raise InputError(
                f"its weights cannot be read ({first_line(error)})",
                where=str(folder),
                hint=f"It must hold config.json and {WEIGHTS}.",
            ) from error

    example = _example(config, getattr(kind, "main_input_name", None) or _main_input(library, config), shape)
    source = str(folder) if weights else "transformers"
    return Source(place, source, build, tuple(example[next(iter(example))].shape[1:]), example, weights)


def _config(library: Any, place: str) -> tuple[Any, Path | None]:
    """Return the configuration that `place` names, and the folder that it lies in, if it does."""
    path = Path(place)
    folder = path.parent if path.suffix == ".json" else path
    if path.exists() or "/" in place:
        if not (folder / "config.json").is_file() and not path.is_file():
            raise InputError(
                "holds no config.json", where=place, hint="Nothing is downloaded: name a folder."
            )
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = library.AutoConfig.from_pretrained(path, **options)
        except (OSError, ValueError, KeyError) as error:
            hint = "It must be of a type that transformers itself has; no code of a folder is run."
            raise InputError(f"is no configuration ({first_line(error)})", where=place, hint=hint) from error
        return _plain(config), None if path.suffix == ".json" else folder
    known = sorted(library.CONFIG_MAPPING)
    if place not in known:
        raise unknown("transformers", place, known)
    return _plain(library.AutoConfig.for_model(place)), None


def _plain(config: Any) -> Any:
    """Let networks return what a file can hold: no caches of keys and values."""
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return config


def _kind(library: Any, config: Any, task: str, name: str) -> Any:
    """Return the class to build: what was named, else the folder's own, else the body."""
    if task:
        kind = getattr(library, f"AutoModelFor{task}", None)
        if kind is None:
            known = [n.removeprefix("AutoModelFor") for n in dir(library) if n.startswith("AutoModelFor")]
            raise unknown(f"transformers:{name.partition(':')[0]}", task, known)
        return kind
    own = getattr(library, (getattr(config, "architectures", None) or [""])[0] or "AutoModel", None)
    return own or library.AutoModel


def _main_input(library: Any, config: Any) -> str:
    """Return the name of the first input of this kind of network."""
    try:
        return library.MODEL_MAPPING[type(config)].main_input_name
    except KeyError:
        return "input_ids"


def _example(config: Any, main: str, shape: tuple[int, ...] | None) -> dict[str, torch.Tensor]:
    """Return inputs of batch 1 as this configuration takes them: words, an image, sound or its spectrum."""
    draw = torch.Generator().manual_seed(0)
    if main == "input_ids":
        length = (
            shape[0] if shape else min(TOKENS, getattr(config, "max_position_embeddings", None) or TOKENS)
        )
        words = torch.randint(0, config.vocab_size, (1, length), generator=draw)
        found = {"input_ids": words, "attention_mask": torch.ones_like(words)}
        return found | ({"decoder_input_ids": words} if config.is_encoder_decoder else {})
    if main == "pixel_values":
        size = getattr(config, "image_size", None) or 224
        sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        usual = (getattr(config, "num_channels", 3), *sides)
    elif main == "input_features":
        usual = (config.num_mel_bins, 2 * getattr(config, "max_source_positions", 1500))
    elif hasattr(config, "num_mel_bins"):  # a transformer over spectra
        usual = (config.max_length, config.num_mel_bins)
    else:
        usual = (SAMPLES,)
    found = {main: torch.randn(1, *(shape or usual), generator=draw)}
    if getattr(config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = torch.zeros(1, 8, dtype=torch.int64)
    return found
