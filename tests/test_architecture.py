"""Who may import whom, and what no file may contain: read from the syntax of every source file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tfthesis.discovery import method_names

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tfthesis", "training", "serving")
FORBIDDEN_IMPORTS = {
    "tfthesis": ("training", "serving", "tests", "benchmarks", "examples"),
    "training": ("serving", "tests", "benchmarks", "examples"),
    "serving": ("training", "tests", "benchmarks", "examples"),
}
PICKLE_READER = Path("tfthesis/encoders/torch_archive.py")
PICKLE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
LAUNCHERS = {
    *("import_module", "__import__", "find_spec", "spec_from_file_location", "run_module", "run_path"),
    *("run", "Popen", "call", "check_call", "check_output", "system", "popen", "exec", "eval"),
    *("execv", "execve", "execvp", "execvpe", "spawnv", "spawnvp", "create_subprocess_exec", "create_subprocess_shell"),
}
GLOBAL_POLICY = {
    *("set_random_seed", "set_seed", "set_global_policy", "set_dtype_policy", "set_floatx", "set_epsilon"),
    *("set_image_data_format", "set_visible_devices", "set_logical_device_configuration", "set_memory_growth"),
    *("set_inter_op_parallelism_threads", "set_intra_op_parallelism_threads", "set_soft_device_placement"),
    *("enable_op_determinism", "run_functions_eagerly", "enable_unsafe_deserialization", "set_log_device_placement"),
    *("basicConfig", "filterwarnings", "simplefilter", "putenv", "setLevel", "experimental_set_strategy"),
}
UNCOMMITTED = {"runs", "build", "dist", "node_modules"}
TEXT_SUFFIXES = {
    "",
    ".py",
    ".sh",
    ".md",
    ".toml",
    ".lock",
    ".json",
    ".csv",
    ".yaml",
    ".yml",
    ".cff",
    ".html",
    ".j2",
} | {*(".ipynb", ".svg", ".css", ".txt", ".cfg", ".bazel", ".pbtxt", ".config")}

Rule = Callable[[ast.Module, Path], Iterator[str]]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that `tree` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def named(node: ast.AST) -> str:
    """Return the last name of `a.b.c` or `c`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string below `node`, parts of f-strings included."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def crossed_arrows(tree: ast.Module, path: Path) -> Iterator[str]:
    """Imports, and the strings that would import or start, a package that this file must not know."""
    forbidden = FORBIDDEN_IMPORTS.get(path.parts[0], ())
    for line, name in imported(tree):
        if name.split(".")[0] in forbidden:
            yield f"{path}:{line}: imports {name}"
    names = "|".join(forbidden) or "(?!)"
    for line, text in strings(tree):
        if re.fullmatch(rf"({names})(\.\w*|/[\w/]*\.py)+", text):
            yield f"{path}:{line}: names the module {text!r}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and named(node.func) in LAUNCHERS:
            found = [text for _, text in strings(node) if re.search(rf"(?<![\w/-])({names})\b", text)]
        elif isinstance(node, ast.List | ast.Tuple) and "-m" in (words := [getattr(e, "value", 0) for e in node.elts]):
            found = [word for word in words[words.index("-m") + 1 :][:1] if str(word).split(".")[0] in forbidden]
        else:
            continue
        for text in found:
            yield f"{path}:{node.lineno}: starts or imports {text!r}"


def forbidden_statements(tree: ast.Module, path: Path) -> Iterator[str]:
    """Asserts, swallowed errors, Lambda layers, and everything that runs a program out of a file."""
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Assert):
            yield f"{where}: assert"
        if isinstance(node, ast.ExceptHandler) and all(isinstance(part, ast.Pass) for part in node.body):
            yield f"{where}: an error is swallowed"
        if isinstance(node, ast.Attribute | ast.Name) and named(node) == "Lambda":
            yield f"{where}: Lambda layer"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            yield f"{where}: {node.func.id}"
        if isinstance(node, ast.keyword) and ast.unparse(node) in ("allow_pickle=True", "safe_mode=False"):
            yield f"{where}: {ast.unparse(node)}"
        if isinstance(node, ast.Attribute) and node.attr == "enable_unsafe_deserialization":
            yield f"{where}: {node.attr}"
    for line, name in imported(tree):
        if name.split(".")[0] in PICKLE_MODULES and path != PICKLE_READER:
            yield f"{path}:{line}: imports {name}"


def global_policy(tree: ast.Module, path: Path) -> Iterator[str]:
    """Seeds, dtype policies, devices, threads, environment and flags: the caller's, never the library's."""
    if path.parts[0] != "tfthesis":
        return
    for line, name in imported(tree):
        if name.split(".")[0] in ("argparse", "tyro", "click", "absl"):
            yield f"{path}:{line}: imports {name}"
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and node.attr in GLOBAL_POLICY:
            yield f"{where}: {node.attr}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.argv", "random.seed", "np.random.seed"):
            yield f"{where}: {ast.unparse(node)}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("matplotlib.use", "plt.switch_backend"):
            yield f"{where}: {ast.unparse(node)}"
        changed = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
        if changed and ast.unparse(node.value) == "os.environ":
            yield f"{where}: sets an environment variable"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.update", "os.environ.setdefault"):
            yield f"{where}: sets an environment variable"


RULES: tuple[Rule, ...] = (crossed_arrows, forbidden_statements, global_policy)


def source_files() -> list[Path]:
    return [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_keep_the_rule(rule: Rule):
    files = source_files()
    assert len(files) > 20
    assert [found for path in files for found in rule(ast.parse((ROOT / path).read_text("utf-8")), path)] == []


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (crossed_arrows, "tfthesis/a.py", "import training"),
        (crossed_arrows, "tfthesis/a.py", "from serving.client import Client"),
        (crossed_arrows, "training/a.py", "def f():\n    import serving.server as s"),
        (crossed_arrows, "training/a.py", "importlib.import_module('serving.server')"),
        (crossed_arrows, "training/a.py", "importlib.import_module('serving')"),
        (crossed_arrows, "training/a.py", "NAME = 'serving.server'"),
        (crossed_arrows, "training/a.py", "load(f'serving.{name}')"),
        (crossed_arrows, "serving/a.py", "runpy.run_module('training')"),
        (crossed_arrows, "serving/a.py", "subprocess.run(['python', '-m', 'training.run'])"),
        (crossed_arrows, "serving/a.py", "COMMAND = [sys.executable, '-m', 'training']"),
        (crossed_arrows, "serving/a.py", "os.system('python -m training.run --list')"),
        (crossed_arrows, "serving/a.py", "subprocess.Popen('exec training/run.py', shell=True)"),
        (crossed_arrows, "serving/a.py", "SCRIPT = 'training/run.py'"),
        (crossed_arrows, "training/a.py", "from tests.conftest import real_data"),
        (forbidden_statements, "training/a.py", "assert x"),
        (forbidden_statements, "training/a.py", "try:\n    f()\nexcept ValueError:\n    pass"),
        (forbidden_statements, "tfthesis/a.py", "keras.layers.Lambda(f)"),
        (forbidden_statements, "tfthesis/a.py", "import pickle"),
        (forbidden_statements, "tfthesis/a.py", "from joblib import load"),
        (forbidden_statements, "serving/a.py", "np.load(path, allow_pickle=True)"),
        (forbidden_statements, "serving/a.py", "keras.saving.load_model(path, safe_mode=False)"),
        (forbidden_statements, "serving/a.py", "eval(text)"),
        (global_policy, "tfthesis/a.py", "keras.utils.set_random_seed(1)"),
        (global_policy, "tfthesis/a.py", "keras.mixed_precision.set_global_policy('float16')"),
        (global_policy, "tfthesis/a.py", "tf.config.set_visible_devices([])"),
        (global_policy, "tfthesis/a.py", "tf.config.threading.set_inter_op_parallelism_threads(1)"),
        (global_policy, "tfthesis/a.py", "np.random.seed(1)"),
        (global_policy, "tfthesis/a.py", "os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'"),
        (global_policy, "tfthesis/a.py", "os.environ.setdefault('A', 'b')"),
        (global_policy, "tfthesis/a.py", "name = sys.argv[1]"),
        (global_policy, "tfthesis/a.py", "import argparse"),
    ],
)
def test_rule_finds_the_offence(rule: Rule, path: str, source: str):
    assert list(rule(ast.parse(source), Path(path)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("training/a.py", "print('serve it: python -m serving.server --model_base_path saved_models')"),
        ("training/a.py", "from tensorflow_serving.apis import predict_pb2"),
        ("training/a.py", "SIGNATURE = 'serving_default'"),
        ("training/a.py", "parser.description = 'training and serving'"),
        ("tfthesis/a.py", "def call(self, inputs, training=None): return 'training' in names"),
        ("tfthesis/a.py", "importlib.import_module(f'tfthesis.methods.{name}')"),
        ("training/a.py", "keras.utils.set_random_seed(seed)"),
        ("tfthesis/a.py", "folder = os.environ.get('TFTHESIS_CACHE')"),
        (str(PICKLE_READER), "import pickle"),
    ],
)
def test_rules_leave_the_rest_alone(path: str, source: str):
    tree = ast.parse(source)
    assert [found for rule in RULES for found in rule(tree, Path(path))] == []


def test_methods_import_without_tensorflow():
    script = (
        "import sys\n"
        "from tfthesis.discovery import all_methods\n"
        "from tfthesis.method import Method\n"
        "broken = [str(method) for _, method in all_methods() if not isinstance(method, Method)]\n"
        "heavy = {'tensorflow', 'keras', 'scann', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{broken} {heavy}' if broken or heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_method_has_a_test():
    assert method_names()
    missing = [name for name in method_names() if not (ROOT / f"tests/methods/test_{name}.py").is_file()]
    assert missing == []


def committed_texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file that belongs to the project, by walking the folders that are committed."""
    for path in sorted(ROOT.rglob("*")):
        inner = path.relative_to(ROOT)
        top = inner.parts[0]
        ignored = top in UNCOMMITTED or top.endswith(".egg-info") or "__pycache__" in inner.parts
        ignored |= top.startswith(".") and top not in (".ci", ".gitignore")
        if top == "saved_models" and inner.name != "README.md":
            continue
        if not ignored and path.is_file() and path.suffix in TEXT_SUFFIXES and path != Path(__file__).resolve():
            yield inner, path.read_text("utf-8")


MACHINE = re.compile(
    r"(?<![\w.:~$}])/(work|root|home|tmp|Users|mnt|scratch)/\w"  # absolute paths of somebody's machine
    r"|pypi\.org|pythonhosted\.org|npmjs\.(org|com)|(?<![\w-])--((extra-)?index-url|find-links)",
)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


@pytest.mark.parametrize("text", ["see /home/someone/x", "open('/tmp/x')", "https://pypi.org/simple", "--index-url x"])
def test_machine_pattern_finds(text: str):
    assert MACHINE.search(text)


@pytest.mark.parametrize("text", ["~/.cache/x", "models/tmp/x", "https://example.org/home/x", "$HOME/work/x"])
def test_machine_pattern_leaves_alone(text: str):
    assert not MACHINE.search(text)


def test_files_name_no_machine_and_leave_nothing_open():
    texts = list(committed_texts())
    assert len(texts) > 40
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE.search(line) or UNFINISHED.search(line)
    ]
    assert found == []
