"""Which models are served, from where: the command line's base path or a configuration file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.versions import Policy, list_versions
from tfthesis.errors import UserError, closest

# What tensorflow_model_server calls a model that was given no name.
DEFAULT_NAME = "default"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to serve: `base_path` holds its version folders, `labels` are names of versions for requests."""

    name: str
    base_path: Path
    policy: Policy = dataclasses.field(default_factory=Policy)
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


#: Returns the models to serve now; called on every look at the disk.
Models = Callable[[], list[ModelConfig]]


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The models to serve.

    Attributes:
        models: returns them; a catalogue that is found on disk may change.
        named: whether the user named each of them, so that all must load before the server starts.
    """

    models: Models
    named: bool


def catalogue_below(base_path: Path, name: str | None) -> Catalogue:
    """Return the models of `--model_base_path`.

    A path that holds version folders is one model, called `name`. Otherwise its folders are models:
    all of them, or only `name`.

    Raises:
        UserError: there is no such folder, or no such model in it.
    """
    if not base_path.is_dir():
        raise UserError(
            f"--model_base_path {base_path}: no such folder; export a model first: python -m training.export --help"
        )
    base_path = base_path.resolve()
    if name and (base_path / name).is_dir():
        return _one(ModelConfig(name, base_path / name))
    is_model = bool(list_versions(base_path))
    others = [config.name for config in _find(base_path)]
    if name and others and not is_model:
        raise closest(name, others, "model")
    if name or is_model:
        return _one(ModelConfig(name or DEFAULT_NAME, base_path))
    return Catalogue(lambda: _find(base_path), named=False)


def catalogue_of_file(path: Path) -> Catalogue:
    """Return the models of a `ModelServerConfig` in protobuf text format.

    Raises:
        UserError: the file cannot be read or asks for something that cannot be served.
    """
    configs = configs_of(read_config_file(path), f"--model_config_file {path}")
    return Catalogue(lambda: configs, named=True)


def read_config_file(path: Path) -> model_server_config_pb2.ModelServerConfig:
    """Return the `ModelServerConfig` that a file holds in protobuf text format.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UserError(f"--model_config_file {path}: {error}") from error


def configs_of(message: model_server_config_pb2.ModelServerConfig, where: str) -> list[ModelConfig]:
    """Return the models of a configuration; `where` it comes from begins the messages of errors.

    Raises:
        UserError: it asks for something that cannot be served.
    """
    if message.WhichOneof("config") == "custom_model_config":
        raise UserError(f"{where}: custom_model_config is not supported; expected a model_config_list")
    entries = [_entry(entry, where) for entry in message.model_config_list.config]
    names = [entry.name for entry in entries]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not entries or repeated:
        fault = f"{repeated[0]!r} is configured more than once" if repeated else "no model in model_config_list"
        raise UserError(f"{where}: {fault}")
    return entries


def _one(config: ModelConfig) -> Catalogue:
    return Catalogue(lambda: [config], named=True)


def _find(folder: Path) -> list[ModelConfig]:
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [ModelConfig(child.name, child) for child in children if list_versions(child)]


def _entry(entry: model_server_config_pb2.ModelConfig, where: str) -> ModelConfig:
    if not entry.name:
        raise UserError(f"{where}: a model has no name")
    where = f"{where}, model {entry.name!r}"
    if entry.model_platform != "tensorflow":
        raise UserError(f'{where}: expected model_platform: "tensorflow", got {entry.model_platform!r}')
    base_path = Path(entry.base_path)
    if not base_path.is_absolute():
        raise UserError(f"{where}: expected an absolute base_path, got {entry.base_path!r}")
    if not base_path.is_dir():
        raise UserError(f"{where}: base_path {base_path} does not exist")
    return ModelConfig(entry.name, base_path, _policy(entry.model_version_policy), dict(entry.version_labels))


def _policy(message: source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> Policy:
    kind = message.WhichOneof("policy_choice")
    if kind == "specific":
        return Policy(kind, versions=tuple(message.specific.versions))
    if kind == "all":
        return Policy(kind)
    return Policy(count=message.latest.num_versions or 1)
