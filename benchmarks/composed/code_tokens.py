"""Tokens: what each name in Python's own standard library is there for, by Python's own parser.

    python -m benchmarks.composed.code_tokens --out /tmp/tokens

A text is 64 tokens in a row of a module; a token's class is what `tokenize` and `ast` say of it: keyword,
function or class that is defined, parameter, call, attribute, other name, number, text, operator.
The words themselves are known by their spelling only (a hash), so context decides what a name is. Modules of
the test part are none of those of the training part. Read it by `hf:OUT` (needs `datasets`).
"""

from __future__ import annotations

import argparse
import ast
import io
import keyword
import sysconfig
import tokenize
import zlib
from collections.abc import Iterator
from pathlib import Path

CLASSES = (
    *("operator", "keyword", "function", "class", "parameter"),
    *("call", "attribute", "name", "number", "text"),
)
LENGTH = 64  # tokens a text
VOCABULARY = 4096
PADDING = 0
_SKIPPED = (
    *(tokenize.ENCODING, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.COMMENT),
)


def modules() -> list[Path]:
    """Return the modules of the standard library, sorted; without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [*root.glob("*.py"), *root.glob("[a-z]*/*.py")]
    return sorted(p for p in found if "test" not in p.parts[-2] and "packages" not in p.parts[-2])


def number_of(word: str) -> int:
    """Return a word's number: its hash, the same on every machine; 0 is left for filling up."""
    return 1 + zlib.crc32(word.encode()) % (VOCABULARY - 1)


def tokens_of(source: str) -> Iterator[tuple[int, int]]:
    """Yield the number and the class of each token of a module."""
    roles = _roles(ast.parse(source))
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _SKIPPED:
            continue
        yield number_of(token.string), CLASSES.index(_class_of(token, before, roles))
        before = token.string


def _class_of(token: tokenize.TokenInfo, before: str, roles: dict[tuple[int, int], str]) -> str:
    if token.type == tokenize.NUMBER:
        return "number"
    if token.type != tokenize.NAME:
        return "operator" if token.type == tokenize.OP else "text"
    if keyword.iskeyword(token.string):
        return "keyword"
    if before in ("def", "class"):
        return "function" if before == "def" else "class"
    row, column = token.start
    if before == ".":
        return roles.get((row, token.end[1]), "attribute")  # the parser knows where an attribute ends
    return roles.get((row, column), "name")


def _roles(tree: ast.Module) -> dict[tuple[int, int], str]:
    """Return what the parser says of names, by where they begin, and of attributes, by where they end."""
    found: dict[tuple[int, int], str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            found[node.lineno, node.col_offset] = "parameter"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found[node.func.lineno, node.func.col_offset] = "call"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found[node.func.end_lineno or 0, node.func.end_col_offset or 0] = "call"
    return found


def texts(paths: list[Path], count: int) -> list[dict[str, list[int]]]:
    """Return up to `count` texts of `LENGTH` tokens, modules in turn."""
    found: list[dict[str, list[int]]] = []
    for path in paths:
        try:
            tokens = list(tokens_of(path.read_text(encoding="utf-8")))
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            continue
        for start in range(0, len(tokens) - LENGTH + 1, LENGTH):
            numbers, classes = zip(*tokens[start : start + LENGTH], strict=True)
            row = {"input_ids": list(numbers), "labels": list(classes)}
            found.append({**row, "attention_mask": [1] * LENGTH})
            if len(found) == count:
                return found
    return found


def write(folder: Path, train: int, test: int) -> Path:
    """Write the data set of `datasets`, a third of the modules for val and test; return the folder."""
    import datasets

    paths = modules()
    shares = {"train": [p for i, p in enumerate(paths) if i % 6 > 1]}
    shares |= {"val": paths[0::6], "test": paths[1::6]}
    label = datasets.Sequence(datasets.ClassLabel(names=list(CLASSES)))
    made = {}
    for split, found in shares.items():
        rows = texts(found, train if split == "train" else test)
        made[split] = datasets.Dataset.from_list(rows).cast_column("labels", label)
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=4000, help="texts to train on")
    parser.add_argument("--test", type=int, default=800, help="texts of val and of test, each")
    args = parser.parse_args()
    print(write(args.out, args.train, args.test))


if __name__ == "__main__":
    main()
