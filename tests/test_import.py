"""What importing costs and promises: torch waits until it is needed, and our models are timm's in whatever order."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import robust_hub

CREATE = "timm.create_model('resnet18s_ln').norm_kind == 'ln'"
ORDERS = {
    "import timm, robust_hub": CREATE,
    "import robust_hub, timm": CREATE,
    "from robust_hub import certify; import timm": CREATE,
    "from robust_hub import *; import timm": CREATE,
    "import robust_hub, timm.models; from timm import create_model": f"create_model and {CREATE}",
    "import robust_hub; from timm.models import create_model": "create_model('resnet18s_ln').norm_kind == 'ln'",
    "import robust_hub.models.resnets, timm": CREATE,
    "import robust_hub.models.checkpoint, timm": CREATE,  # ours, which imports timm itself
    "import timm.models.resnet, robust_hub.cli.main, timm": CREATE,
    "import robust_hub": "robust_hub.load_model('resnet18s_ln').norm_kind == 'ln'",
}
# Each order in a fork of a process that has torch, which takes seconds, and neither timm nor us.
FORKS = """
import json, os, sys, traceback, torch
assert not {"timm", "robust_hub"} & sys.modules.keys()
children = {}
for order, condition in json.loads(sys.argv[1]).items():
    children[order] = os.fork()
    if not children[order]:
        try:
            exec(order)
            os._exit(0 if eval(condition) else 1)
        except BaseException:
            traceback.print_exc()
        os._exit(2)
print(json.dumps({order: os.waitpid(child, 0)[1] for order, child in children.items()}))
"""


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )


def says(code: str, **environment: str) -> str:
    done = python("-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- The models are registered


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    done = python("-c", FORKS, json.dumps({**ORDERS, "import timm": CREATE}))
    return {**json.loads(done.stdout), "stderr": done.stderr}


@pytest.mark.parametrize("order", ORDERS)
def test_in_whatever_order(order: str, outcomes: dict[str, Any]) -> None:
    assert outcomes[order] == 0, outcomes["stderr"]


def test_timm_alone_has_none_of_them(outcomes: dict[str, Any]) -> None:
    assert outcomes["import timm"] != 0 and "Unknown model (resnet18s_ln)" in outcomes["stderr"]


def test_in_spawned_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import multiprocessing, robust_hub, timm\n"
        "def work(name): return timm.create_model(name).norm_kind\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(work, ('resnet18s_gn',)))\n"
        "        print(pool.apply(robust_hub.load_model, ('resnet18s_in',)).stem)\n"
    )
    done = python(str(tmp_path / "script.py"))
    assert done.stdout.split() == ["gn", "cifar_s2"], done.stderr


# Threads that import timm, our modules and public names at once: a hook that imported robust_hub.models.resnets within
# timm's import waited for a thread that waited for timm, and Python gave one of them half a module.
THREADS = """
import sys, threading, time, torch, robust_hub
sys.setswitchinterval(1e-5)
errors = []
def direct():
    from robust_hub.models.resnets import load_model
    load_model("resnet18s_ln")
def public():
    robust_hub.load_model("resnet18s_ln")
def by_timm():
    import timm
    timm.create_model("resnet18s_ln")
def guarded(work, delay):
    time.sleep(delay)
    try:
        work()
    except BaseException as error:
        errors.append(f"{work.__name__}: {error!r}")
works = [(by_timm, 0.0), (direct, 0.1), (public, 0.2), (by_timm, 0.3), (by_timm, 1.0)]
threads = [threading.Thread(target=guarded, args=work, daemon=True) for work in works]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
    assert not thread.is_alive()
print(errors)
"""


def test_in_threads_that_import_at_once() -> None:
    assert says(THREADS) == "[]"


def test_within_timms_import_no_module_of_ours_waits_for_timm() -> None:
    ours = "import sys, robust_hub, timm; print(*sorted(m for m in sys.modules if m.startswith('robust_hub.')))"
    models = [
        f"robust_hub.models.{name}"
        for name in ("bounds", "config", "entrypoints", "family", "labels", "pins", "recipe", "shelves")
    ]
    ground = [
        f"robust_hub.{name}" for name in ("errors", "files", "layout", "models", "parsing", "provenance", "start")
    ]
    light = sorted([*ground, *models])
    assert says(ours).split() == light
    alone = "; ".join(f"import {name}" for name in light if not name.endswith("entrypoints"))
    assert says(f"import sys; {alone}; print('timm' in sys.modules)") == "False"


def test_a_failing_registration_is_seen_and_tried_again(tmp_path: Path) -> None:
    pins = tmp_path / "robust_hub" / "pins.json"
    pins.parent.mkdir()
    pins.write_text("{")
    code = (
        "import sys, pathlib, robust_hub\n"
        "for _ in range(2):\n"
        "    try:\n        import timm\n"
        "    except ValueError as error:\n        print(error, error.__notes__)\n"
        "    assert 'timm' not in sys.modules\n"
        "pathlib.Path(sys.argv[1]).unlink()\n"
        "import timm\n"
        f"print({CREATE})"
    )
    done = python("-c", code, str(pins), XDG_CONFIG_HOME=str(tmp_path))
    *errors, last = done.stdout.splitlines()
    assert last == "True", done.stderr
    assert len(errors) == 2 and all(str(pins) in e and "could not register its models with timm" in e for e in errors)
    pins.write_text("{")
    done = python("-c", "import timm, robust_hub", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 1 and str(pins) in done.stderr.splitlines()[-1]


def test_networks_that_cannot_be_imported_leave_timm_alone_and_say_why() -> None:
    code = (
        "import sys, robust_hub, timm\n"
        "sys.modules['robust_hub.models.norms'] = None\n"
        "timm.create_model('resnet18')\n"
        "for make in (timm.create_model, lambda name: robust_hub.load_model(name)):\n"
        "    try:\n        make('resnet18s_ln')\n"
        "    except ImportError as error:\n        print(error)"
    )
    assert says(code).splitlines() == ["import of robust_hub.models.norms halted; None in sys.modules"] * 2


# --- Nothing slow is imported before it is needed


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in ("models", "certify", "pretrain", "publish", "reproduce")),
    ],
    ids=" ".join,
)
def test_the_command_line_answers_without_torch(words: list[str]) -> None:
    code = (
        f"import sys\nfrom robust_hub.cli.main import main\ntry:\n    main({words}, prog_name='robust-hub')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'timm', 'scipy', 'numpy', 'huggingface_hub'} & sys.modules.keys()))"
    )
    assert says(code).endswith("\n[]")


def test_names_that_need_no_torch_import_none() -> None:
    code = "import sys, robust_hub\nrobust_hub.{}\nprint('torch' in sys.modules)"
    assert [says(code.format(name)) for name in ("read_run", "Certificate", "load_data")] == ["False", "False", "True"]


# --- Public names


def test_every_public_name_has_a_module_and_a_type() -> None:
    tree = ast.parse(Path(robust_hub.__file__).read_text())
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    typed = {
        alias.name: node.module
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"robust_hub.{module}" for name, module in robust_hub._MODULES.items()}
    assert sorted(robust_hub.__all__) == robust_hub.__all__ == sorted(typed)
    assert set(robust_hub.__all__) <= set(dir(robust_hub))
    assert robust_hub.certify is robust_hub.certification.evaluate.certify


def test_modules_are_attributes_and_other_names_are_none() -> None:
    assert says("import robust_hub; print(robust_hub.names.did_you_mean('a', ['ab']))") == "did you mean ab?"
    with pytest.raises(AttributeError, match=r"^module 'robust_hub' has no attribute 'certfy'$"):
        _ = robust_hub.certfy
    assert not hasattr(robust_hub, "__wrapped__") and not hasattr(robust_hub, "_nothing")
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from robust_hub import nothing  # noqa: F401
