"""Prune a transformer, then go on in Hugging Face's own Trainer: `python examples/hf_trainer.py`.

    pip install "dtp-edge[transformers]"

A small encoder learns to tell comments from code in Python's own library, one character a token. Nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import inspect
import tempfile
from typing import Any

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification, Trainer, TrainingArguments

import dtp_edge as dtp

LENGTH = 40
QUIET: Any = {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "logging_strategy": "no"}
Sample = dict[str, Any]


def lines() -> list[Sample]:
    """Return lines of a few modules as characters, without what a comment begins with."""
    text = "".join(inspect.getsource(module) for module in (argparse, inspect, tempfile))
    found = []
    for line in (one.strip() for one in text.splitlines()):
        comment, words = line.startswith("#"), line.lstrip("# ")
        if len(words) > 10:
            codes = [min(ord(c), 127) for c in words[:LENGTH]]
            padding = [0] * (LENGTH - len(codes))
            mask = [1] * len(codes) + padding
            found.append({"input_ids": codes + padding, "attention_mask": mask, "labels": int(comment)})
    return found


def trained(model: torch.nn.Module, samples: list[Sample], steps: int) -> float:
    """Train in their Trainer; return the loss of the last steps."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            use_cpu=True,
            **QUIET,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=samples)  # type: ignore[arg-type]
        return trainer.train().training_loss


def right(model: torch.nn.Module, samples: list[Sample]) -> float:
    with torch.no_grad():
        ids, mask, labels = (torch.tensor([s[k] for s in samples]) for k in samples[0])
        logits = model.eval()(input_ids=ids, attention_mask=mask)["logits"]
        return float((logits.argmax(1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--latency", default="80%")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    torch.manual_seed(0)
    samples = lines()
    comments = [s for s in samples if s["labels"]]
    samples = comments + [s for s in samples if not s["labels"]][: len(comments)]
    order = torch.randperm(len(samples)).tolist()
    test, train = [samples[i] for i in order[:200]], [samples[i] for i in order[200:]]
    config = DistilBertConfig(
        vocab_size=128, dim=64, n_layers=2, n_heads=4, hidden_dim=256, max_position_embeddings=LENGTH
    )
    model = DistilBertForSequenceClassification(config)
    trained(model, train, options.steps)
    print(f"dense {right(model, test):.3f}")

    example = {k: torch.tensor([train[0][k]]) for k in ("input_ids", "attention_mask")}
    result = dtp.prune_for_device(
        model,
        example,
        device=options.device,
        budget=dtp.Budget(latency=options.latency),
        # one head size holds for all heads of its class: left whole, the class can be kept
        exclude=[f"distilbert.transformer.layer.{i}.attention" for i in range(2)],
    )
    print(f"cut {right(result.module, test):.3f}, a {type(result.module).__name__}")
    trained(result.module.train(), train, options.steps)
    print(f"trained on {right(result.module, test):.3f}")
    shorter = {k: v[:, :24].repeat(3, 1) for k, v in example.items()}
    print(f"other lengths and batches run: {tuple(result.module(**shorter)['logits'].shape)}")


if __name__ == "__main__":
    main()
