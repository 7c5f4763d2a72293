"""Text as numbered words: files in, word numbers and a vocabulary out.

Words are what blanks separate; every line ends with ``<eos>``, blank lines too. The vocabulary is that of
the training part, in the order of first occurrence, and ``<unk>``, which stands for every other word.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from archgrad.datasets.location import locate
from archgrad.errors import UserError

END, UNKNOWN = "<eos>", "<unk>"
PARTS = ("train", "valid", "test")
_ENDINGS = (".txt", ".txt.gz", ".tokens", ".tokens.gz")
_LEAST_LINES = 10  # of a single file that is cut into parts
_SHARES = (0.8, 0.9)  # of its lines: where the validation part and the test part begin


@dataclass(frozen=True)
class TextData:
    """A text in three parts, each the numbers of its words, int64 [N].

    valid: drives the architecture in a search, and says in training when to average and which epoch is kept.
    vocabulary: the word of every number.
    note: a sentence about where it came from, for the log.

    Raises:
        UserError: a part without words, a number outside the vocabulary, or fewer than two words in that.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    vocabulary: tuple[str, ...] = field(repr=False)
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.vocabulary) < 2:
            raise UserError(f"{self.name}: a vocabulary of {len(self.vocabulary)} word(s) leaves no choice")
        for part in PARTS:
            words: Tensor = getattr(self, part)
            if words.dtype != torch.int64 or words.dim() != 1:
                raise UserError(
                    f"{self.name}: the {part} part must be the numbers of its words, int64 [N]; got "
                    f"{words.dtype} {list(words.shape)}"
                )
            if len(words) < 2:
                raise UserError(
                    f"{self.name}: the {part} part has {len(words)} word(s); at least 2 are needed"
                )
            low, high = int(words.min()), int(words.max())
            if low < 0 or high >= len(self.vocabulary):
                raise UserError(
                    f"{self.name}: the {part} part has word numbers from {low} to {high}, the vocabulary "
                    f"{len(self.vocabulary)} words; numbers go from 0 to {len(self.vocabulary) - 1}"
                )

    def digests(self) -> dict[str, str]:
        """SHA-256, in hex, of each part's numbers as 64-bit little-endian integers."""
        return {
            part: hashlib.sha256(getattr(self, part).numpy().astype("<i8").tobytes()).hexdigest()
            for part in PARTS
        }


def wikitext2(path: Path | None, resize: tuple[int, int] | None = None) -> TextData:
    """WikiText-2 in words: `path`, else ``$ARCHGRAD_DATA/wikitext2`` or ``wikitext-2``.

    Raises:
        UserError: as `text`.
    """
    return _read("wikitext2", _place("wikitext2", path, ("wikitext-2",)), resize)


def ptb(path: Path | None, resize: tuple[int, int] | None = None) -> TextData:
    """Penn Treebank in Mikolov's form: `path`, else ``$ARCHGRAD_DATA/ptb``.

    Raises:
        UserError: as `text`.
    """
    return _read("ptb", _place("ptb", path, ("penn",)), resize)


def text(path: Path | None, resize: tuple[int, int] | None = None) -> TextData:
    """A text of one's own: a folder with three files, or one file.

    The folder's files are called ``train``, ``valid`` and ``test``, whatever stands before (as in
    ``ptb.train.txt``), and end in .txt, .tokens, or one of these and .gz. A single file is cut by lines: the
    first 80 % to learn from, 10 % for validation, 10 % for the test.

    Raises:
        UserError: no such path, a part missing, a file that is empty, not UTF-8 or damaged, too few lines.
    """
    return _read("text", locate("text", path), resize)


def _place(name: str, path: Path | None, others: Sequence[str]) -> Path:
    """`locate`, with other names that the folder in ``$ARCHGRAD_DATA`` may have."""
    if path is None:
        for other in (name, *others):
            try:
                return locate(other, None)
            except UserError:
                continue
    return locate(name, path)


def part_files(path: Path) -> dict[str, Path]:
    """The files of a folder that hold a part of a text, by part; of several the first by name."""
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        ending = next((e for e in sorted(_ENDINGS, key=len, reverse=True) if file.name.endswith(e)), None)
        part = file.name.removesuffix(ending).rpartition(".")[2] if ending else ""
        if part in PARTS and file.is_file():
            found.setdefault(part, file)
    return found


def is_text(path: Path) -> bool:
    """Whether `path` looks like a text: such a folder, or a file of that name."""
    return bool(part_files(path)) or (path.is_file() and path.name.endswith(_ENDINGS))


def _read(name: str, path: Path, resize: tuple[int, int] | None) -> TextData:
    if resize is not None:
        raise UserError(f"data.resize is for images; {name} is a text. Leave it out")
    if path.is_file():
        lines = _lines(path)
        if len(lines) < _LEAST_LINES:
            raise UserError(
                f"{path} has {len(lines)} line(s); a single file is cut into training, validation and test "
                f"by lines, so at least {_LEAST_LINES} are needed. Or give a folder with train.txt, "
                "valid.txt and test.txt"
            )
        first, second = (round(share * len(lines)) for share in _SHARES)
        note = f"{path.name}: lines 1-{first} to learn from, {first + 1}-{second} validation, the rest test"
        return numbered(name, lines[:first], lines[first:second], lines[second:], note)
    files = part_files(path)
    if missing := [part for part in PARTS if part not in files]:
        raise UserError(
            f"{path} has no file for {', '.join(missing)}: a text needs train.txt, valid.txt and test.txt "
            f"(or .txt.gz); found {', '.join(f.name for f in files.values()) or 'none of them'}"
        )
    train, valid, test = (_lines(files[part]) for part in PARTS)
    return numbered(name, train, valid, test, f"{name}: {', '.join(files[p].name for p in PARTS)} in {path}")


def numbered(
    name: str, train: Iterable[str], valid: Iterable[str], test: Iterable[str], note: str = ""
) -> TextData:
    """`TextData` of the lines of three parts.

    >>> data = numbered("rhyme", ["a rose is a rose"], ["a rose"], ["is a daisy"])
    >>> data.vocabulary
    ('a', 'rose', 'is', '<eos>', '<unk>')
    >>> data.test.tolist()
    [2, 0, 4, 3]
    """
    numbers: dict[str, int] = {}

    def learned(word: str) -> int:
        return numbers.setdefault(word, len(numbers))

    known = _numbers(train, learned)
    unknown = learned(UNKNOWN)
    learned(END)
    others = [_numbers(part, lambda word: numbers.get(word, unknown)) for part in (valid, test)]
    return TextData(name, known, others[0], others[1], tuple(numbers), note)


def _numbers(lines: Iterable[str], number: Callable[[str], int]) -> Tensor:
    words = [number(word) for line in lines for word in (*line.split(), END)]
    return torch.from_numpy(np.array(words, dtype=np.int64))


def _lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file, plain or gzip.

    Raises:
        UserError: it is empty, no UTF-8, or a damaged gzip file.
    """
    try:
        raw = file.read_bytes()
        content = gzip.decompress(raw) if file.suffix == ".gz" else raw
        decoded = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 (byte {error.start}); convert it, e.g. iconv -f latin1 -t utf8"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file} is no whole gzip file ({error}); copy or download it again") from None
    if not decoded.strip():
        raise UserError(f"{file} is empty: it has no word")
    lines = decoded.split("\n")
    return lines[:-1] if lines[-1] == "" else lines
