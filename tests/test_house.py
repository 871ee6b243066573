"""The files around the code: packages, versions, scripts, Bazel targets, notices and the commands of the README."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tfthesis", "training", "serving")
PYTHONS = ("3.11", "3.12", "3.13")
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def setup_arguments() -> dict[str, object]:
    """Return the literal keyword arguments of setup.py, f-strings filled in."""
    source = (ROOT / "setup.py").read_text("utf-8")
    captured: dict[str, object] = {}
    names = {"__name__": "setup", "__file__": str(ROOT / "setup.py")}
    code = compile(re.sub(r"^from setuptools import .*$", "", source, flags=re.M), "setup.py", "exec")
    exec(code, {**names, "setup": captured.update, "find_packages": lambda **_: []})
    return captured


def locked() -> dict[str, str]:
    """Return the line of every package in requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return {Requirement(line).name: line for line in lines if line and not line.startswith("#")}


def readme_commands() -> list[list[str]]:
    """Return the words of every `python -m ...` command in the README's shell blocks."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, flags=re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if "python -m " in line]
    return [words[words.index("python") :] for words in commands]


def test_lock_pins_what_setup_asks_for():
    arguments, pins = setup_arguments(), locked()
    extras = arguments["extras_require"]
    wanted = [Requirement(text) for text in [*arguments["install_requires"], *extras["encoders"], *extras["test"]]]
    assert len(wanted) > 15
    for requirement in wanted:
        pin = Requirement(pins[requirement.name])
        (version,) = [clause.version for clause in pin.specifier if clause.operator == "=="]
        assert Version(version) in requirement.specifier, f"{requirement}: requirements.lock has {version}"


def test_lock_is_exact_for_every_python():
    for line in locked().values():
        pin = Requirement(line)
        assert [clause.operator for clause in pin.specifier] == ["=="], line
        assert not pin.marker or any(pin.marker.evaluate({"python_full_version": f"{v}.0"}) for v in PYTHONS), line


def test_every_imported_package_is_asked_for():
    arguments = setup_arguments()
    texts = [
        *arguments["install_requires"],
        *(text for extra in arguments["extras_require"].values() for text in extra),
    ]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    providers = metadata.packages_distributions()
    local = {*PACKAGES, "tests", "benchmarks"} | {path.stem for path in (ROOT / "tests").rglob("*.py")}
    missing = set()
    for path in (path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - local:
                if not declared & {canonicalize_name(package) for package in providers.get(name, [])}:
                    missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert missing == set()


@pytest.mark.parametrize("name", ["tensorflow", "scann", "tensorflow-text", "tensorflow-serving-api"])
def test_installed_versions_are_those_that_fit_together(name: str):
    (wanted,) = [Requirement(text) for text in setup_arguments()["install_requires"] if Requirement(text).name == name]
    assert Version(metadata.version(name)) in wanted.specifier


def test_every_folder_of_code_is_a_package():
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_package_data_covers_every_file_that_is_not_code():
    patterns = setup_arguments()["package_data"]
    for package in PACKAGES:
        folder = ROOT / package
        covered = {path for pattern in patterns[package] for path in folder.glob(pattern)}
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert [str(path) for path in files if path.suffix != ".py" and path not in covered] == []


def test_one_version_everywhere():
    version = setup_arguments()["version"]
    assert f'version = "{version}"' in (ROOT / "MODULE.bazel").read_text("utf-8")
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_deployment_uses_the_locked_tensorflow():
    version = Requirement(locked()["tensorflow"]).specifier
    for name in ("compose.yaml", "kubernetes.yaml"):
        text = (ROOT / "serving/deploy" / name).read_text("utf-8")
        images = re.findall(r"image: tensorflow/serving:(\S+)", text)
        assert images and all(image in version for image in images)


def test_license_is_the_unchanged_apache_license():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for package in setup_arguments()["extras_require"]["encoders"]:
        assert package in notice or package == "pyarrow", "which brings no weights"


def test_bazel_globs_find_every_file():
    calls = [node for node in ast.walk(ast.parse((ROOT / "BUILD").read_text("utf-8"))) if isinstance(node, ast.Call)]
    globs = [ast.literal_eval(call.args[0]) for call in calls if getattr(call.func, "id", "") == "glob"]
    # A final `**` means files for Bazel, but folders for pathlib.
    patterns = [re.sub(r"\*\*$", "**/*", pattern) for patterns in globs for pattern in patterns]
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    code = [path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(code) > 40
    assert [str(path) for path in code if path not in found] == []


def test_bazel_files_are_well_formed():
    done = subprocess.run([ROOT / "scripts/check_bazel.sh"], capture_output=True, text=True, timeout=60)
    if done.returncode == 3:
        pytest.skip("buildifier is not installed: npm install --no-save @bazel/buildifier")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", ["scripts/setup.sh", "scripts/demo.sh", "scripts/test.sh", "scripts/lock.sh", ".ci/run"]
)
def test_scripts_are_executable_bash(name: str):
    script = ROOT / name
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=10)
    assert "set -euo pipefail" in script.read_text("utf-8")


def test_setup_says_what_is_missing_without_a_python(tmp_path: Path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts/setup.sh", scripts)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "uname", "grep", "dirname", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = subprocess.run([scripts / "setup.sh"], env={"PATH": str(tools)}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "found no Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_missing_real_data_fails_and_unset_data_skips(tmp_path: Path):
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_a.py").write_text("def test_a(real_data): assert real_data.is_dir()\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path]
    results = {}
    for value in ("", str(tmp_path / "missing"), str(tmp_path)):
        environment = {**os.environ, "TFTHESIS_DATA": value}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        results[value] = done.returncode, done.stdout
    unset, missing, present = results.values()
    assert unset[0] == 0 and "skipped: 1" in unset[1] and "TFTHESIS_DATA is not set" in unset[1]
    assert missing[0] == 1 and "no such folder" in missing[1]
    assert present[0] == 0 and "1 passed" in present[1] and "skipped: 0" in present[1]


def test_links_of_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_readme_names_every_dataset_and_encoder():
    from tfthesis.data.domain_images import domain_names
    from tfthesis.data.image_text import dataset_names
    from tfthesis.data.person_images import person_names
    from tfthesis.encoders import MODALITIES, encoder_names
    from tfthesis.transfer import transfer_names

    text = (ROOT / "README.md").read_text("utf-8")
    names = [*dataset_names(), *transfer_names(), *domain_names(), *person_names()]
    names += [name for modality in MODALITIES for name in encoder_names(modality)]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_notebook_code_of_the_readme_runs(tmp_path: Path):
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), flags=re.M | re.S)[0]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "i2t_r1" in done.stdout
    assert (tmp_path / "mm_net.keras").is_file()


def test_commands_of_the_readme_exist():
    commands = readme_commands()
    assert len(commands) >= 8
    for words in commands:
        module, options = words[2], [word.split("=")[0] for word in words[3:] if word.startswith("--")]
        if module == "pip":
            continue
        # What follows a module without dashes is its command, which has options of its own.
        command = [word for word in words[3:4] if not word.startswith("-")]
        done = subprocess.run(
            [sys.executable, "-m", module, *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{module}: {done.stderr}"
        for option in options:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", done.stdout), f"{module} has no option {option}"


def test_tests_of_a_file_stay_in_one_process(request):
    """Else what a file prepares once, such as a trained model, would be prepared by every process."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("one process runs all tests, or --dist is not loadgroup")
    assert request.node.nodeid.endswith("@tests/test_house.py"), "pytest-xdist does not mark groups with this pytest"
