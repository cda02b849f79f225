"""Texts read off a signal: connectionist temporal classification (Graves et al. 2006)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.main_output import main_output, require_width, softened
from dtp_edge.training.objectives.torch_metric import TorchMetric, torchmetrics

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["BLANK", "CTC", "OBJECTIVE"]

BLANK = 0


class CTC(Objective):
    """Batches are `(inputs, targets)`, the targets a dict: `symbols` int64 `[B, L]` from 1 up (0 is the blank
    and fills up), `lengths` `[B]`, and where inputs are padded `input_share` `[B]`, the share that is signal.

    The output is `[B, T, symbols]`, logits or log-probabilities. Texts are read greedily: the best symbol of
    each step, without repeats and blanks.
    """

    name = "ctc"
    headline = Headline("character error rate", higher_is_better=False)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        logits, targets = _steps(outputs), batch[1]
        lengths = targets["lengths"]
        steps = _signal(targets, logits)
        self._refuse_long(targets["symbols"], lengths, steps)
        logs = F.log_softmax(logits.float(), 2).transpose(0, 1)
        return F.ctc_loss(logs, targets["symbols"], steps, lengths, blank=BLANK)

    @staticmethod
    def _refuse_long(symbols: Tensor, lengths: Tensor, steps: Tensor) -> None:
        """A text needs a step a symbol, and one more between two that are the same."""
        inside = torch.arange(1, symbols.shape[1], device=symbols.device) < lengths[:, None]
        twice = ((symbols[:, 1:] == symbols[:, :-1]) & inside).sum(1)
        needed = lengths + twice
        if bool((needed > steps).any()):
            worst = int((needed - steps).argmax())
            raise unfit(
                f"a text of {int(lengths[worst])} symbols needs {int(needed[worst])} steps, "
                f"the network gives {int(steps[worst])}",
                "Give longer inputs, shorter texts, or a network with fewer strides.",
            )

    def distilled(self, outputs: Any) -> Tensor:
        return _steps(outputs).transpose(1, 2)

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        return softened(ours, theirs, temperature)

    def metric(self) -> Metric:
        return TorchMetric(torchmetrics().text.CharErrorRate(), _texts)

    def refuse(self, data: DataSource, outputs: Any) -> None:
        require_width(_steps(outputs).shape[2], data.num_classes, "symbols with the blank")


def _steps(outputs: Any) -> Tensor:
    return main_output(outputs, (3,), "[batch, steps, symbols]")


def _signal(targets: Mapping[str, Tensor], logits: Tensor) -> Tensor:
    """How many of the output's steps belong to each signal."""
    steps, lengths = logits.shape[1], targets["lengths"]
    share = targets.get("input_share")
    if share is None:
        return torch.full_like(lengths, steps)
    return (share.double() * steps).ceil().long().clamp(1, steps).to(lengths.device)


def _texts(outputs: Any, batch: Any) -> tuple[list[str], list[str]]:
    """Read and wanted texts, a character a symbol: only their equality matters."""
    best, targets = _steps(outputs).argmax(2), batch[1]
    steps = _signal(targets, _steps(outputs))
    read = [_spelt(torch.unique_consecutive(row[:n])) for row, n in zip(best, steps.tolist(), strict=True)]
    lengths = targets["lengths"].tolist()
    wanted = [_spelt(row[:n]) for row, n in zip(targets["symbols"], lengths, strict=True)]
    return read, wanted


def _spelt(symbols: Tensor) -> str:
    return "".join(
        chr(0x4E00 + s) for s in symbols.tolist() if s != BLANK
    )  # no letter that a metric may strip


OBJECTIVE = CTC
