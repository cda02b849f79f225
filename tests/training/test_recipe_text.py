"""--set KEY=VALUE: every field of the recipe, read as its own type."""

from __future__ import annotations

import dataclasses

import pytest

from dtp_edge.errors import InputError
from dtp_edge.training import Recipe, parse_changes
from dtp_edge.training.recipe_text import settable


def test_every_field_is_read_back_as_it_was() -> None:
    other = Recipe(
        batch_size=7, optimizer="adamw", schedule="linear", score_learning_rate=0.5, gradient_clip=1.5,
        accumulate=2, mixed_precision="bf16", channels_last=True, ema=0.9, distill=0.0,
    )  # fmt: skip
    texts = [f"{f.name}={getattr(other, f.name)}" for f in dataclasses.fields(Recipe) if f.name != "seed"]
    assert dataclasses.replace(Recipe(), **parse_changes(texts)) == other
    assert {f.name for f in dataclasses.fields(Recipe)} - {"seed"} <= set(settable())


def test_one_rate_for_all_phases_and_the_last_word_counts() -> None:
    changed = parse_changes(["learning_rate=0.01", "tune_learning_rate = 0.2", "gradient_clip=none"])
    assert (changed["base_learning_rate"], changed["mask_learning_rate"]) == (0.01, 0.01)
    assert (changed["tune_learning_rate"], changed["gradient_clip"]) == (0.2, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimiser=adamw", "no 'optimiser'"),
        ("seed=3", "no 'seed'"),
        ("ema", "value is missing"),
        ("batch_size=1.5", "not a whole number"),
        ("ema=much", "not a number"),
        ("channels_last=perhaps", "not yes or no"),
    ],
)
def test_what_cannot_be_set(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_changes([text])


def test_an_impossible_value_is_the_recipes_to_refuse() -> None:
    with pytest.raises(InputError, match="no schedule 'cosin'"):
        dataclasses.replace(Recipe(), **parse_changes(["schedule=cosin"]))
