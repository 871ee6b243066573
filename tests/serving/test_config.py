"""Which models a base path or a configuration file means."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.config import catalogue_below, catalogue_of_file
from serving.versions import list_versions, version_number
from tfthesis.errors import UserError


def below(base_path: Path, name: str | None = None) -> dict[str, Path]:
    return {config.name: config.base_path for config in catalogue_below(base_path, name).models()}


@pytest.fixture
def models(tmp_path) -> Path:
    for folder in ("first/1", "second/20", "second/3", "notes/drafts", ".hidden/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "README.md").write_text("not a model")
    return tmp_path


def test_folder_of_models(models):
    assert below(models) == {"first": models / "first", "second": models / "second"}


def test_one_model_of_the_folder(models):
    assert below(models, "second") == {"second": models / "second"}


def test_folder_of_versions(models):
    assert below(models / "second", "mine") == {"mine": models / "second"}
    assert below(models / "second") == {"default": models / "second"}


def test_unknown_model_suggests_the_nearest(models):
    with pytest.raises(UserError, match="Did you mean 'second'"):
        below(models, "secnd")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("00000123", 123),
        ("0", 0),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("tmp-2", None),
        ("2.bak", None),
        ("-1", None),
        ("", None),
        ("٣", None),
    ],
)
def test_version_is_a_name_that_is_a_number_as_a_whole(name, number):
    assert version_number(name) == number


def test_two_names_of_one_number_are_one_version(tmp_path, caplog):
    for name in ("7", "007", "best"):
        (tmp_path / name).mkdir()
    assert list_versions(tmp_path) == {7: tmp_path / "007"}
    assert "same version" in caplog.text


ENTRY = 'config { name: "a" base_path: "%s" model_platform: "tensorflow" %s }'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no model in model_config_list"),
        ("model_config_list { nonsense", "models.config"),
        ('model_config_list { config { name: "a" base_path: "relative" model_platform: "tensorflow" } }', "absolute"),
        ('model_config_list { config { name: "a" base_path: "/" } }', "expected model_platform"),
        ('model_config_list { config { base_path: "/" model_platform: "tensorflow" } }', "no name"),
        ("model_config_list { " + ENTRY % ("/", "") * 2 + " }", "more than once"),
        ("model_config_list { " + ENTRY % ("/nowhere-at-all", "") + " }", "does not exist"),
        ("custom_model_config { }", "custom_model_config is not supported"),
    ],
)
def test_bad_configuration_is_refused(tmp_path, text, message):
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        catalogue_of_file(file)


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", {3}),
        ("model_version_policy { latest { num_versions: 2 } }", {2, 3}),
        ("model_version_policy { all {} }", {1, 2, 3}),
        ("model_version_policy { specific { versions: 1 versions: 8 } }", {1}),
    ],
)
def test_version_policy(tmp_path, policy, chosen):
    file = tmp_path / "models.config"
    file.write_text("model_config_list { " + ENTRY % (tmp_path, policy) + " }")
    (config,) = catalogue_of_file(file).models()
    assert config.policy.choose([1, 2, 3]) == chosen
