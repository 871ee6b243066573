"""Damage to an export is found and named."""

import json

import pytest

from tfthesis.errors import UserError
from tfthesis.export.manifest import read_manifest, verify_export, write_manifest


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(bytes(range(200)))
    (folder / "variables" / "data").write_bytes(b"weights" * 50)
    write_manifest(folder, {"signatures": {"encode": {"help": "käse"}}, "metadata": {}})
    return folder


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_an_untouched_export_is_verified(export):
    manifest = verify_export(export)
    assert manifest["signatures"] == {"encode": {"help": "käse"}}
    assert manifest["files"]["variables/data"]["bytes"] == 350
    assert set(manifest["files"]) == {"saved_model.pb", "variables/data"}


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/data"])
def test_a_flipped_byte_is_named(export, name):
    flip(export / name, 100)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        verify_export(export)


def test_every_flipped_byte_of_the_manifest_is_found(export):
    file = export / "manifest.json"
    whole = file.read_bytes()
    for position in range(len(whole)):
        flip(file, position)
        with pytest.raises(UserError, match=r"manifest\.json: damaged"):
            read_manifest(export)
        file.write_bytes(whole)
    read_manifest(export)


def test_missing_files_are_named(export):
    (export / "variables" / "data").unlink()
    with pytest.raises(UserError, match="variables/data is missing"):
        verify_export(export)
    (export / "manifest.json").unlink()
    with pytest.raises(UserError, match="expected the version folder of an export"):
        verify_export(export)


def test_a_shortened_file_is_named(export):
    (export / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=r"saved_model\.pb is damaged: expected .*200.*found .*'bytes': 0"):
        verify_export(export)


def test_files_of_a_server_beside_it_are_left_alone(export):
    (export / "batching_params.pbtxt").touch()
    verify_export(export)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", json.dumps({"format": 99})])
def test_other_texts_are_no_manifest(export, text):
    (export / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="damaged"):
        read_manifest(export)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_files_outside_are_not_read(export, name, monkeypatch):
    manifest = read_manifest(export)
    manifest["files"] = {name: {"bytes": 1, "sha256": "0"}}
    monkeypatch.setattr("tfthesis.export.manifest.read_manifest", lambda path: manifest)
    with pytest.raises(UserError, match="names a file outside the export"):
        verify_export(export)
