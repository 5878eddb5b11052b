"""The architecture: which module may import which, and which modules may import a library."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from search.values.verbs import VERBS
from trainables.tasks import NAMES

ROOT = Path(__file__).parent.parent
PACKAGES = ("search", "trainables", "cluster")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MAY_IMPORT = {
    "search": {"search", "trainables", "cluster"},
    "trainables": {"trainables"},
    "cluster": {"cluster"},
}

DOORS = {
    # bucket.py reads and writes; the probe checks the bucket on hosts where the project may be
    # missing; the account asks what AWS allows.
    "boto3": {
        "cluster/preflight/account.py",
        "cluster/preflight/probe.py",
        "cluster/storage/bucket.py",
    },
    "optuna": {"search/algorithms/bayes.py", "search/facts/importance.py"},
    # Writing has two doors: what is told of a search is a projection of its journal, a model is
    # registered once, because a person asked for it.
    "mlflow": {
        "search/tracking/client.py",
        "search/tracking/forget.py",
        "search/tracking/data_inputs.py",
        "search/tracking/runs.py",
        "search/tracking/tracker.py",
        "search/tracking/model_registry.py",
        "search/tracking/monitoring.py",
        "search/tracking/pyfunc_model.py",
    },
    "ray.tune": {
        "search/execution/data_parallel.py",
        "search/execution/tune_patches.py",
        "search/execution/tune.py",
    },
    "ray.serve": {"search/serving/ray_serve.py"},
    "ray.train": {
        "search/execution/data_parallel.py",
        "trainables/trainer.py",
    },
    "ray": {
        "cluster/jobs.py",
        "cluster/runtime/lean.py",
        "cluster/runtime/session.py",
        "cluster/spot.py",
        "cluster/runtime/nodes.py",
        "cluster/runtime/fair_share.py",
        "cluster/runtime/shared_folder.py",
        "search/execution/cluster_capacity.py",
        "search/execution/data_parallel.py",
        "search/execution/tune_patches.py",
        "search/execution/worker.py",
        "search/execution/tune.py",
        "search/execution/hang_detector.py",
        "search/execution/pool.py",
        "search/serving/ray_serve.py",
        "trainables/trainer.py",
    },
    "rich": {
        "search/views/removable_table.py",
        "search/views/base.py",
        "search/views/live.py",
        "search/views/outcome.py",
        "search/views/comparison_table.py",
        "search/views/overview_table.py",
        "search/cli/follow.py",
        "search/views/standing.py",
        "search/views/steps.py",
        "search/views/terminal.py",
    },
    "jsonschema": {"cluster/preflight/schema.py"},
    "yaml": {
        "cluster/definition.py",
        "cluster/runtime/nodes.py",
        "search/cli/config_file.py",
        "trainables/tasks/detection/formats/yolo.py",
    },
    "matplotlib": {f"search/views/page/{name}.py" for name in ("comparison", "curves", "figures")},
    # A table of trials, and what a promoted model answers.
    "pandas": {
        "search/api.py",
        "search/tracking/pyfunc_model.py",
        "trainables/export/export.py",
        "trainables/predictors/base.py",
        "trainables/tasks/classification/predictor.py",
    },
    "captum": {"trainables/explanations/explain.py"},
    "safetensors": {"trainables/checkpoints/checkpoint.py"},
    "torchmetrics": set(),
    "onnxruntime": {"trainables/export/runtime.py"},
    "torchvision": {
        "trainables/augmentation/policies.py",
        "trainables/datasets/published/mnist.py",
        "trainables/datasets/published/fashion_mnist.py",
        "trainables/datasets/published/cifar10.py",
        "trainables/tasks/segmentation/encoder_networks.py",
        "trainables/tasks/detection/networks/faster_rcnn.py",
        "trainables/tasks/detection/networks/ssd.py",
        "trainables/models/encoders.py",
        "trainables/models/families.py",
        "trainables/models/weights.py",
    },
    "skimage": {
        "trainables/baselines/features.py",
        "trainables/tasks/segmentation/pixel_models.py",
        "trainables/tasks/super_resolution/quality.py",
        "trainables/tasks/super_resolution/scenes.py",
    },
    "sklearn": {
        "trainables/baselines/feature_classifiers.py",
        "trainables/baselines/classifiers.py",
        "trainables/tasks/detection/baselines.py",
        "trainables/tasks/segmentation/baselines.py",
        "trainables/baselines/enlargement.py",
        "trainables/baselines/store.py",
        "trainables/baselines/threshold.py",
        "trainables/datasets/published/digits.py",
        "trainables/tasks/super_resolution/scenes.py",
        "trainables/tasks/detection/scenes.py",
        "trainables/tasks/segmentation/scenes.py",
        "trainables/datasets/splits.py",
        "trainables/explanations/examples.py",
    },
    "skops": {
        "trainables/tasks/detection/blob_models.py",
        "trainables/baselines/base.py",
        "trainables/tasks/segmentation/pixel_models.py",
        "trainables/baselines/store.py",
        "trainables/tasks/classification/predictor.py",
    },
}
"""A library, and the only modules that import it."""

FLOORS = {
    "cluster": """
        errors secrets versions exit_codes signals
        cli
        guard
        auth definition spot
        ssh jobs dashboard
        preflight runtime
        storage
        submit down status up
        check
    """,
    "trainables": """
        errors values predictors progress statistics
        disk machine fields
        messages
        catalog on_disk
        config fairness
        datasets
        datasets/published
        inspection augmentation
        tasks
        baselines
        checkpoints
        models
        training
        fusion evaluation probes
        robustness label_errors
        reliability explanations
        export trial
        tasks/classification tasks/segmentation tasks/detection tasks/super_resolution
        trainer
    """,
    "search": """
        space values
        journal schedulers fetching
        spaces/tasks
        algorithms spaces process
        design
        decisions
        facts
        views/text
        views
        tracking views/page feedback
        preflight trained feedback/monitoring serving/pages
        execution feedback/learning serving
        sessions
        operations
        cli
        web list status why report sync export compare data clean delete pause stop extend \
run resume refine select promote predict explain serve label monitor improve
        web/forms __main__
        web/pages api
        ui
    """,
}
"""The rooms of each package, from the ground up, a floor a line: a room imports from lower floors
alone. A folder is one room.
"""

FORBIDDEN = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}

RUN_BY_MLFLOW = "search/tracking/pyfunc_model.py"
"""A copy of it goes with a registered model, where MLflow runs it; nothing imports it."""

SIDE_EFFECTS = (ast.For, ast.While, ast.With, ast.Try, ast.Delete)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> frozenset[str]:
    """Return every module that a file imports, at any place; `from a import b` is a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def reaches(imported: frozenset[str], library: str) -> bool:
    return any(name == library or name.startswith(library + ".") for name in imported)


def modules(package: str) -> list[Path]:
    return [path for path in MODULES if name_of(path).startswith(f"{package}/")]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_look_one_way_only(package: str) -> None:
    ours = {
        name_of(path): {name.split(".")[0] for name in imports(path)} & set(PACKAGES)
        for path in modules(package)
    }
    assert {
        name: found - MAY_IMPORT[package]
        for name, found in ours.items()
        if not found <= MAY_IMPORT[package]
    } == {}


def room_of(name: str) -> tuple[str, str]:
    """Return the package and the room of a file."""
    package, _, rest = name.removesuffix(".py").partition("/")
    if task := re.match(r"tasks/\w+(?=/)", rest):  # with its formats and networks
        return package, task[0]
    return package, rest.rpartition("/")[0] or rest


def floor_of(name: str) -> int:
    package, room = room_of(name)
    return next(
        number
        for number, floor in enumerate(FLOORS[package].strip().splitlines())
        if room in floor.split()
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_stands_on_one_floor(package: str) -> None:
    rooms = {room_of(name_of(path))[1] for path in modules(package)} - {"__init__"}
    assert sorted(FLOORS[package].split()) == sorted(rooms)


def test_rooms_import_from_lower_floors_alone() -> None:
    """Therefore there is no circle among them."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): name_of(path)
        for path in MODULES
        if path.name != "__init__.py"
    }
    upward = [
        f"{name_of(path)} -> {files[name]}"
        for path in MODULES
        if path.name != "__init__.py"
        for name in imports(path) & files.keys()
        if room_of(files[name])[0] == room_of(name_of(path))[0]  # between packages: see MAY_IMPORT
        and room_of(files[name]) != room_of(name_of(path))
        and floor_of(files[name]) >= floor_of(name_of(path))
    ]
    assert sorted(upward) == []


def test_no_room_is_a_hall() -> None:
    """No folder has more than 15 modules, beside verbs and their faces."""
    counts = Counter(
        path.parent
        for path in MODULES
        if path.name != "__init__.py"
        and not (path.stem in VERBS and path.parent.name in ("search", "operations"))
        and "\ndef main(" not in path.read_text()
    )
    assert {
        str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > 15
    } == {}


def test_every_room_says_what_it_is_for() -> None:
    for folder in {path.parent for path in MODULES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_docstrings_say_what_a_thing_is() -> None:
    """They are imperatives or noun phrases (PEP 257), not clauses that begin with a question."""
    questions = {"What", "Whether", "Who", "How", "Where", "Why", "Which", "When"}
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    assert [
        f"{name_of(path)}: {docstring.splitlines()[0]}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, documented) and (docstring := ast.get_docstring(node))
        if docstring.split()[0].rstrip(",") in questions
    ] == []


def test_search_never_imports_torch() -> None:
    assert [name_of(path) for path in modules("search") if reaches(imports(path), "torch")] == []


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library: str) -> None:
    assert {name_of(path) for path in MODULES if reaches(imports(path), library)} == DOORS[library]


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_unpickles(package: str) -> None:
    assert [
        name_of(path)
        for path in modules(package)
        if {name.split(".")[0] for name in imports(path)} & FORBIDDEN
    ] == []
    texts = {name_of(path): path.read_text() for path in modules(package)}
    loads = {name: text.count("torch.load") for name, text in texts.items()}
    assert {name for name, count in loads.items() if count} == (
        {"trainables/models/weights.py"} if package == "trainables" else set()
    )
    assert {name: texts[name].count("weights_only=True") for name in texts if loads[name]} == {
        name: 1 for name in texts if loads[name]
    }


def test_only_the_registry_names_a_task() -> None:
    """A task differs by its folder and its spaces, so that the next one is added alike."""
    named = re.compile(rf"\b({'|'.join(NAMES)})\b")
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in (".py", ".html", ".js")
        if not any(f"tasks/{name}/" in path.as_posix() for name in NAMES)
        if not path.is_relative_to(ROOT / "search/spaces")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line) and not line.startswith("NAMES = (")
    ] == []


def test_no_task_imports_another() -> None:
    assert [
        f"{name_of(path)} -> {module}"
        for path in modules("trainables")
        for module in imports(path)
        if module.startswith(tuple(f"trainables.tasks.{name}" for name in NAMES))
        if name_of(path).split("/")[2:3] != module.split(".")[2:3]
    ] == []


def test_ray_is_started_in_one_place() -> None:
    assert [name_of(path) for path in MODULES if "ray.init(" in path.read_text()] == [
        "cluster/runtime/session.py"
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_does_nothing(package: str) -> None:
    """The top level of a module has only definitions, imports and constants.

    Loops, files and bare calls belong into functions.
    """
    for path in modules(package):
        for node in ast.parse(path.read_text()).body:
            where = f"{name_of(path)}, line {node.lineno}"
            assert not isinstance(node, SIDE_EFFECTS), where
            assert not (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Call)
                and name_of(path) != RUN_BY_MLFLOW
            ), where


def test_what_mlflow_runs_is_imported_nowhere() -> None:
    assert not [
        name_of(path) for path in MODULES if reaches(imports(path), "search.tracking.pyfunc_model")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "search/tracking/pyfunc_model.py",
        "trainables/predictors/base.py",
        "trainables/tasks/detection/blob_models.py",
        "trainables/baselines/features.py",
        "trainables/tasks/segmentation/pixel_models.py",
        "cluster/preflight/probe.py",
    ],
)
def test_what_runs_without_the_project_stands_alone(name: str) -> None:
    assert not {found.split(".")[0] for found in imports(ROOT / name)} & set(PACKAGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_predictor_imports_only_what_is_copied_with_it(name: str) -> None:
    """The export rewrites `from trainables.predictors.base import`: no other form is allowed."""
    text = (ROOT / f"trainables/tasks/{name}/predictor.py").read_text()
    assert not re.search(r"^\s*import trainables", text, re.MULTILINE)
    own = imports(ROOT / f"trainables/tasks/{name}/predictor.py")
    base = "trainables.predictors.base"
    assert {found for found in own if found.startswith(PACKAGES) and found != base} == {
        found for found in own if found.startswith(f"{base}.")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_package_files_hold_a_docstring_only(package: str) -> None:
    for path in modules(package):
        if path.name == "__init__.py" and path != ROOT / "trainables/tasks/__init__.py":
            (only,) = ast.parse(path.read_text()).body
            assert isinstance(only, ast.Expr), name_of(path)
            assert isinstance(only.value, ast.Constant), name_of(path)


def test_importing_the_command_loads_no_torch_and_changes_nothing() -> None:
    """In a fresh process no torch, ray or mlflow is loaded.

    No environment variable is set, and no folder made.
    """
    code = (
        "import os, sys; before = dict(os.environ), sorted(os.listdir('.'))\n"
        "import search.run, search.resume, search.refine, search.select, search.status, "
        "search.sync, search.why, search.promote\n"
        "import search.clean, search.compare, search.data, search.delete, search.export\n"
        "import search.extend, search.pause, search.stop\n"
        "import search.explain, search.improve\n"
        "import search.label, search.list, search.monitor, search.predict, search.report\n"
        "import search.serve\n"
        "import search.api, search.__main__\n"
        "assert (dict(os.environ), sorted(os.listdir('.'))) == before\n"
        "print(*(name for name in ('torch', 'ray', 'mlflow', 'torchvision', 'pandas') if name in "
        "sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == ""


def test_no_driver_is_derived_from_another() -> None:
    """What drivers differ in is a policy's, which is composed into the one that there is."""
    bases = {
        ast.unparse(base): name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    }
    assert [base for base in bases if base.split("[")[0].split(".")[-1] == "Driver"] == []


def test_functions_are_short() -> None:
    """The median function has fewer than 20 lines, and none more than 60."""
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[len(lengths) // 2] < 20
    assert lengths[-1] <= 60
