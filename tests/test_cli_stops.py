"""Ctrl-C while libraries are imported, and under a launcher: one sentence, 130, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from robust_hub.cli.main import main
from robust_hub.evidence.records import read_run

# A finder that presses Ctrl-C when a module is about to be imported.
PRESSING = """
import os, signal, sys
class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Pressing())
from robust_hub.cli.main import main
main(sys.argv[2:], prog_name="robust-hub")
"""
CERTIFY = ("certify", "--model", "resnet18s_ln_mixednoise", "--data", "digits", "--classes", "by-position", "--out")
KEPT = "robust-hub: stopped; every record so far is kept: the same command goes on where it stopped\n"


@pytest.mark.parametrize(
    "module",
    [
        "numpy",
        "torch",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("torch._dynamo", "timm", "accelerate", "scipy.special", "torch.utils.data")
        ),
    ],
)
def test_ctrl_c_in_an_import(module: str, tmp_path: Path) -> None:
    line = [sys.executable, "-c", PRESSING, module, *CERTIFY, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", KEPT)


@pytest.mark.parametrize("module", ["wrapt", "click"])
def test_ctrl_c_before_the_command_line_is_imported_is_no_traceback(module: str, tmp_path: Path) -> None:
    """As the package itself is imported, and after that."""
    pressing = PRESSING.split("from robust_hub")[0].replace("sys.argv[1]", repr(module))
    (tmp_path / "sitecustomize.py").write_text(pressing)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    line = [sys.executable, "-m", "robust_hub", "models"]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("name", ["-c", "/bin/robust-hub"])
def test_a_program_that_imports_the_package_keeps_its_ctrl_c(name: str) -> None:
    """A worker, too, which multiprocessing gives the arguments of its parent."""
    said = "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    code = f"import signal, sys; sys.argv[0] = {name!r}; import robust_hub; {said}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout == "True\n", done.stderr


def test_the_installed_script_is_no_traceback_either(tmp_path: Path) -> None:
    (tmp_path / "robust-hub").write_text("import robust_hub, signal; print(signal.getsignal(signal.SIGINT).name)")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    line = [sys.executable, str(tmp_path / "robust-hub")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, env=environment)
    assert done.stdout == "SIG_DFL\n", done.stderr


def test_a_stop_within_an_exec_has_its_code_too() -> None:
    """Python remembers that one passed through an exec, and would end itself by the signal after `-m` and `-c`."""
    code = """
from robust_hub.cli.stopping import end
try:
    exec("raise KeyboardInterrupt")
except KeyboardInterrupt:
    end(130)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=200).returncode == 130


def test_a_stop_says_of_images_that_no_record_goes_on(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    words = ("certify", str(tmp_path / "a.png"), "--model", "resnet18s_ln_mixednoise", "--out", str(tmp_path / "out"))
    line = [sys.executable, "-c", PRESSING, "torch", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (130, "robust-hub: stopped; the files of images that were done are kept\n")


def launched(*words: object, **options: object) -> subprocess.Popen[str]:
    """Start the command in two processes of torchrun, in a session of its own."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.full
def test_two_processes_report_once_and_the_words_of_the_page_work(tmp_path: Path) -> None:
    words = ("--every", "60", "--n0", "20", "--n", "100", "--sigma", "0.25,0.5", "--json")
    out, err = launched("-m", "--", "robust_hub", *CERTIFY, tmp_path / "runs", *words).communicate(timeout=280)
    said = json.loads(out)
    assert [one["images"] for one in said["runs"]] == [9, 9], err
    assert len(read_run(tmp_path / "runs" / "sigma_0.5").records) == 9
    assert err.count("9/9 [") == 2  # a bar a sigma


def test_of_two_processes_one_certifies_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would write the same files, each of noise of its own."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    words = ["certify", str(tmp_path / "a.png"), "--model", "resnet18s_ln_mixednoise", "--out", str(tmp_path / "out")]
    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.setenv(name, "1")
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.output) == (0, "") and not (tmp_path / "out").exists()


@pytest.mark.full
def test_two_processes_refuse_once(tmp_path: Path) -> None:
    words = ("certify", "--model", "resnet18s_ln_mixednoise", "--data", tmp_path / "none", "--samples", "10")
    process = launched("-m", "robust_hub", *words, "--out", tmp_path / "runs")
    _, err = process.communicate(timeout=280)
    assert process.returncode == 1 and err.count("robust-hub") == 1 and "expected a folder" in err


@pytest.mark.full
def test_ctrl_c_in_two_processes_is_said_once(tmp_path: Path) -> None:
    words = ("--every", "1", "--n", "2000", "--quiet")
    process = launched("-m", "--", "robust_hub", *CERTIFY, tmp_path / "runs", *words)
    records = tmp_path / "runs" / "sigma_0.25" / "run.json"
    for _ in range(1000):
        if records.exists() or process.poll() is not None:
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)  # to the launcher, which hands it on
    _, err = process.communicate(timeout=120)
    assert err.count("robust-hub: ") == 1 and KEPT.strip() in err
    assert "KeyboardInterrupt" not in err


# A command that reads from a pipe nobody writes to, in C, where Python hears of no signal.
BLOCKED = """
import ctypes, os, signal, sys, threading
from robust_hub.cli import stopping
from robust_hub.cli.main import main
stopping.PATIENCE = 0.2
@main.command()
def finetune():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.siginterrupt(number, False)
    threading.Timer(0.2, os.kill, (os.getpid(), int(sys.argv[1]))).start()
    ctypes.CDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)
main(["finetune"], prog_name="robust-hub")
"""
# A child of a command, such as a worker, that is sent the signal which the command has a handler for. Python 3.12 and
# newer warn of a fork beside threads.
WORKER = """
import os, signal, sys, time, warnings
from robust_hub.cli import stopping
from robust_hub.cli.main import main
stopping.PATIENCE = 0.1
@main.command()
def finetune():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    time.sleep(0.5)
    print("done")
main(["finetune"], prog_name="robust-hub")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_a_library_keeps_from_python_is_one_sentence_too(number: int, code: int) -> None:
    line = [sys.executable, "-c", BLOCKED, str(int(number))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and done.stdout == ""
    kept = "what was saved is kept: the same command goes on from there, or begins again where nothing was"
    assert done.stderr == f"robust-hub: stopped; {kept}\n"


def test_a_signal_of_a_worker_is_none_of_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{-signal.SIGTERM}\ndone\n", "")
