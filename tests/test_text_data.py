"""Reading text: parts, vocabulary, the published counts, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from archgrad.datasets.text import TextData, is_text, numbered, part_files, ptb, text, wikitext2
from archgrad.errors import UserError

LINES = {"train": "the cat sat\non the mat\n", "valid": "the dog\n", "test": "\nsat the <unk>\n"}


def folder(path: Path, ending: str = ".txt", before: str = "", lines: dict[str, str] = LINES) -> Path:
    for part, content in lines.items():
        file = path / f"{before}{part}{ending}"
        raw = content.encode()
        file.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    return path


def words(data: TextData, part: str) -> list[str]:
    return [data.vocabulary[i] for i in getattr(data, part).tolist()]


@pytest.mark.parametrize(("ending", "before"), [(".txt", ""), (".txt.gz", "ptb."), (".tokens", "wiki.")])
def test_a_folder_of_three_files_is_read(tmp_path: Path, ending: str, before: str) -> None:
    data = text(folder(tmp_path, ending, before))
    assert words(data, "train") == ["the", "cat", "sat", "<eos>", "on", "the", "mat", "<eos>"]
    assert words(data, "valid") == ["the", "<unk>", "<eos>"]
    assert words(data, "test") == ["<eos>", "sat", "the", "<unk>", "<eos>"]
    assert data.vocabulary == ("the", "cat", "sat", "<eos>", "on", "mat", "<unk>")
    assert is_text(tmp_path)


def test_an_unk_of_the_text_itself_is_the_same_word() -> None:
    data = numbered("x", ["a <unk> b"], ["c"], ["<unk>"])
    assert data.vocabulary == ("a", "<unk>", "b", "<eos>")
    assert words(data, "valid") == ["<unk>", "<eos>"]


def test_a_single_file_is_cut_by_lines(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("\n".join(f"w{i}" for i in range(20)) + "\n")
    data = text(file)
    assert words(data, "train") == [w for i in range(16) for w in (f"w{i}", "<eos>")]
    assert words(data, "valid") == ["<unk>", "<eos>"] * 2
    assert len(data.test) == 4
    assert "lines 1-16 to learn from, 17-18 validation" in data.note
    assert is_text(file)


def test_digests_are_those_of_the_numbers() -> None:
    a, b = numbered("x", ["a b c"], ["c"], ["a"]), numbered("x", ["a b d"], ["d"], ["b"])
    assert a.digests()["train"] == b.digests()["train"]
    assert a.digests()["test"] != b.digests()["test"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.txt", b"", "train.txt is empty: it has no word"),
        ("valid.txt", b" \n \n", "valid.txt is empty: it has no word"),
        ("test.txt", "caf\u00e9\n".encode("latin1"), r"test.txt is not UTF-8 \(byte 3\); convert it"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (folder(tmp_path) / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        text(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, lines={"train": "a b\n", "test": "a\n"})
    with pytest.raises(
        UserError, match=r"no file for valid: .*found train.txt, test.txt|test.txt, train.txt"
    ):
        text(tmp_path)
    (tmp_path / "short.txt").write_text("one line\n")
    with pytest.raises(UserError, match=r"has 1 line\(s\); a single file is cut"):
        text(tmp_path / "short.txt")
    (tmp_path / "cut").mkdir()
    folder(tmp_path / "cut", ".txt.gz")
    whole = (tmp_path / "cut" / "train.txt.gz").read_bytes()
    (tmp_path / "cut" / "train.txt.gz").write_bytes(whole[:-9])
    with pytest.raises(UserError, match="is no whole gzip file"):
        text(tmp_path / "cut")
    with pytest.raises(UserError, match="no file or folder"):
        ptb(tmp_path / "nowhere")
    monkeypatch.delenv("ARCHGRAD_DATA", raising=False)
    with pytest.raises(UserError, match="data set 'wikitext2' needs its files"):
        wikitext2(None)
    with pytest.raises(UserError, match=r"data\.resize is for images"):
        text(tmp_path / "cut", (8, 8))


def test_text_data_made_in_python_is_checked() -> None:
    good = torch.tensor([0, 1, 0])
    with pytest.raises(UserError, match="the test part has word numbers from 0 to 2"):
        TextData("x", good, good, torch.tensor([0, 2]), ("a", "b"))
    with pytest.raises(UserError, match="the valid part must be the numbers of its words"):
        TextData("x", good, good.float(), good, ("a", "b"))
    with pytest.raises(UserError, match=r"the train part has 1 word\(s\)"):
        TextData("x", good[:1], good, good, ("a", "b"))


def test_other_folders_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert part_files(tmp_path) == {}
    assert not is_text(tmp_path)


def test_the_published_counts(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and types of WikiText-2 and of Penn Treebank, as their makers and users state them."""
    monkeypatch.setenv("ARCHGRAD_DATA", str(shared_data))
    if not (shared_data / "ptb").is_dir():
        pytest.skip("no texts in the data folder")
    wiki, penn = wikitext2(None), ptb(None)
    assert [len(wiki.train), len(wiki.valid), len(wiki.test)] == [2_088_628, 217_646, 245_569]
    assert len(wiki.vocabulary) == 33_278
    assert [len(penn.train), len(penn.valid), len(penn.test)] == [929_589, 73_760, 82_430]
    assert len(penn.vocabulary) == 10_000
