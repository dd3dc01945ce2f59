"""What the pages show to be typed is typed: Python and shell blocks run in order, on tiny images, a page a test.

A command is read as it is written, so that an option that is not there fails; then it runs with the options of
`SMALLER` behind it, which change how much is done and nothing else. What cannot run here stands in `NOT_RUN` with its
reason, and is read all the same.
"""

import importlib.util
import itertools
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import click
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from snippets import SHELLS, Block, blocks, commands, expand, indented, spans

import robust_hub
from robust_hub.cli.main import main
from robust_hub.models.shelves import checkpoint_folder

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "examples/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
PAGES = [page for page in PAGES if (ROOT / page).exists() and blocks((ROOT / page).read_text())]

SMALLER = {  # what is put behind the options of a command
    "pretrain": ("--model", "resnet18s_ln", "--epochs", "1", "--batch-size", "8", "--mixed-precision", "no", "--quiet"),
    "finetune": ("--epochs", "1", "--batch-size", "8", "--quiet"),
    "certify IMAGE": ("--n", "100", "--batch-size", "50", "--quiet"),
    "certify": ("--every", "1", "--limit", "2", "--n", "100", "--batch-size", "50", "--quiet"),
    "bench certify": ("--images", "1", "--samples", "64", "--n", "100"),
    "bench train": ("--steps", "1", "--repeats", "1"),
    "verify-certificate": ("--fresh", "50"),
    "python -m pytest": ("--collect-only", "-p", "no:cacheprovider"),  # the tests are there
    "python examples/attack.py": ("--images", "1", "--n", "50", "--steps", "1"),
    "python examples/certify_image.py": ("--data", "cifar10/", "--n", "50"),
}
NOT_RUN = {  # a pattern of commands: why they cannot run here
    "python3 -m venv *": "makes an environment",
    ". .venv/bin/activate": "makes an environment",
    "*pip install *": "asks a package index",
    ".venv/bin/python -m pytest *": "is this very suite",
    "ruff *": "checks the code and no page",
    "mypy": "checks the code and no page",
    "pre-commit install": "writes into a clone",
    "*python -m pytest -n *": "is this very suite",
    "eval *_ROBUST_HUB_COMPLETE=*": "belongs into the start of a shell",
    "_ROBUST_HUB_COMPLETE=*": "belongs into the start of a shell",
    "*robust-hub demo": "takes minutes; tests/test_demo.py has it smaller",
    "python tools/make_trust.py --measure": "measures for minutes",
    "python tools/make_*.py*": "is run by tests/test_docs.py",
    "robust-hub reproduce * --data *": "trains for hours",
    "robust-hub shelve runs/reproduce/*": "shelves what took hours",
    "robust-hub card model_cards/resnet152_gn_mixednoise.cifar10": "is of a checkpoint that took hours",
    "robust-hub pretrain * --compile *": "compiles for minutes",
    "robust-hub bench train * --compile *": "compiles for minutes",
    "robust-hub app *": "serves until it is stopped; tests/app drives the page",
    "python tools/make_space.py *": "is run by tests/app/test_space.py",
    "hf upload *": "sends to the Hub",
    "robust-hub publish * --pin": "sends to the Hub",
    "robust-hub verify me/*": "asks the Hub",
    "python tools/compare_plans.py *": "certifies for hours",
    "python train.py *": "is a script of timm's repository",
    "python -c *validate.py *": "is a script of timm's repository",
    "timm.create_model(?hf-hub:*": "asks the Hub",
}
REPLACED = {  # of Python, to do less
    "README.md": {"resnet152_ln_mixednoise": "resnet18s_ln_mixednoise", "sigma=0.25)": "sigma=0.25, n=100)"},
    "docs/index.md": {'model, "digits"': "model, DIGITS, batch_size=8", "n=1000": "n=100"},
    "docs/getting-started.md": {
        'robust_hub.load_data("digits", "train")': "DIGITS",
        "batch_size=64": "batch_size=8",
        "n=1000": "n=100, batch_size=50",
        "every=50": "limit=2",
    },
    "docs/own-data.md": {"n=10_000": "n=100, limit=2, every=1", "(model, train)": "(model, train, epochs=1)"},
    "docs/images.md": {'"digits"': '"cifar10/"'},
}
BEFORE = {  # what a page takes for granted that another one has made
    "docs/publish.md": (
        "robust-hub finetune --data photos/ --out runs/photos",
        "robust-hub certify --model runs/photos --data photos/ --out runs/photos-certified",
    ),
    "docs/choose-sigma-and-n.md": ("robust-hub finetune --data photos/ --out runs/photos",),
    "docs/certificates.md": ("robust-hub finetune --data cifar10/ --out runs/cifar10",),
}
IN_FULL = ("CONTRIBUTING.md", "docs/small-checkpoint.md", "docs/training.md", "docs/attack.md", "docs/throughput.md")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDERS = ("photos", "pets", "cifar10", "imagenet32", "tiny-imagenet-32", "FOLDER", "PHOTOS")

pytestmark = pytest.mark.skipif(not (ROOT / "tools").exists(), reason="the tools are not part of this copy")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders of images by class, three of each split and brighter from class to class; photos/ has no splits."""
    home = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for name in FOLDERS:
        side = 48 if name == "PHOTOS" else 32
        classes = CIFAR10 if name == "cifar10" else ("bird", "cat", "deer", "dog")
        for split, (label, word), k in itertools.product(("train", "test"), enumerate(classes), (1, 2, 3)):
            folder = home / name / word if name == "photos" else home / name / split / word
            folder.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(20 * label, 20 * label + 60, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k if split == 'train' else k + 3}.jpg")
    shutil.copy(home / "photos" / "cat" / "1.jpg", home / "cat.jpg")
    shutil.copy(home / "cat.jpg", home / "photo.jpg")
    return home


@pytest.fixture
def at_home(data, tmp_path, monkeypatch):
    """A folder with such images beside the repository's own folders, in which a page is followed."""
    for source in (*data.iterdir(), ROOT / "model_cards", ROOT / "tools", ROOT / "examples"):
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "model_cards").unlink()  # here a page writes
    (tmp_path / "model_cards").mkdir()
    for checkpoint in (ROOT / "model_cards").iterdir():
        (tmp_path / "model_cards" / checkpoint.name).symlink_to(checkpoint)
    for record in ("attack", "bench"):
        (tmp_path / "docs" / "evidence" / record).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reason(text):
    """Why a command or block cannot run here; "" if it can."""
    return next((why for pattern, why in NOT_RUN.items() if fnmatch(text, pattern)), "")


def resolve(words):
    """Find a command of robust-hub by its words: its name, what it is, and the words that are left."""
    command, name, rest = main, "", list(words)
    while isinstance(command, click.Group):
        word, command, rest = command.resolve_command(click.Context(command), rest)
        assert command is not None
        name = f"{name} {word}".strip()
    return name, command, rest


def run_command(command):
    """Read a command as it is written, and run it, smaller."""
    first, *rest = command.words
    if first.rsplit("/", 1)[-1] == "robust-hub":
        name, found, words = resolve(rest)
        asked = found.make_context(name, expand(words, Path.cwd())).params  # an option that is not there ends here
        model = asked.get("model") or "."
        here = checkpoint_folder(model) is not None if "." in model[1:] else timm.is_model(model)
        assert "/" in model or model == "." or here, f"no network is called {model}"
        if not reason(str(command)):
            of = "certify IMAGE" if asked.get("images") and name == "certify" else name
            smaller = [*expand(rest, Path.cwd()), *SMALLER.get(of, ())]
            result = CliRunner().invoke(main, smaller)
            assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    elif not reason(str(command)):
        assert first == "python", f"nothing here runs {command}"
        run_python(command.given, rest)


def run_python(given, words):
    if given:
        exec(compile(given, "a heredoc", "exec"), {})
        return
    script = words[0]
    smaller = next((more for of, more in SMALLER.items() if fnmatch(" ".join(["python", *words]), f"{of}*")), ())
    if script.startswith("examples/"):
        spec = importlib.util.spec_from_file_location("shown", ROOT / script)
        module = sys.modules["shown"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
        spec.loader.exec_module(module)
        result = CliRunner().invoke(module.main, [*words[1:], *smaller])
        assert result.exit_code == 0, f"{script}\n{result.output}\n{result.exception}"
        return
    place = ROOT if words[:2] == ["-m", "pytest"] else None
    done = subprocess.run([sys.executable, *words, *smaller], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def given_names(page):
    """What a page's Python takes for granted."""
    digits = robust_hub.load_data("digits").subset(range(16))
    names = {"DIGITS": digits}
    if page == "README.md":
        names["x"] = torch.full((3, 32, 32), 100 / 255)
    if page == "docs/certificates.md":
        names["text"] = Path("cat.json").read_text()
    return names


def follow(page, text):
    """Do what a page says."""
    for line in BEFORE.get(page, ()):
        for command in commands(Block(0, "sh", line)):
            run_command(command)
    if page == "docs/certificates.md":
        write_certificate()
    namespace = None
    for block in blocks(text):
        where = f"{page}, line {block.line}"
        if block.language in SHELLS:
            for command in commands(block):
                run_command(command)
        elif block.language == "python":
            code = block.text
            for old, new in REPLACED.get(page, {}).items():
                code = code.replace(old, new)
            namespace = given_names(page) if namespace is None else namespace
            run = compile(code, where, "exec")
            if not any(reason(line.partition(" = ")[2]) for line in code.splitlines()):
                exec(run, namespace)
        else:
            assert block.language in ("", "text", "json", "bibtex"), f"{where}: nothing here runs {block.language}"
            shown = "robust-hub " in block.text or "import " in block.text
            assert block.language or not shown, f"{where}: say its language, text if it is what is printed"


def write_certificate():
    """Make the certificate that docs/certificates.md speaks of, and its image."""
    shown = next(Path("cifar10/test").rglob("*.jpg"))
    Image.open(shown).save("cat.png")
    model = robust_hub.load_model("runs/cifar10")
    x = torch.from_numpy(np.array(Image.open("cat.png"))).permute(2, 0, 1) / 255
    certificate = robust_hub.SmoothedClassifier(model).certify(x, 0.25, n=100, batch_size=50)
    Path("cat.json").write_text(certificate.to_json())


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.full) if page in IN_FULL else page for page in PAGES]
)
def test_what_a_page_shows_works(page, at_home):
    follow(page, (ROOT / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_options_that_sentences_name_are_there(page):
    for span in spans((ROOT / page).read_text()):
        words = span.split()[1:]
        _, command, words = ("", main, words) if words[0][0] == "-" or words[0].isupper() else resolve(words)
        known = {"--help", "-h"} | {name for option in command.params for name in option.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, span


@pytest.mark.parametrize("page", PAGES)
def test_what_is_to_be_typed_says_its_language(page):
    assert [text for text in indented((ROOT / page).read_text()) if "robust-hub " in text or "import " in text] == []


def test_nothing_is_excused_or_replaced_that_no_page_shows():
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    shown = [block for text in texts.values() for block in blocks(text)]
    lines = [str(one) for block in shown if block.language in SHELLS for one in commands(block)]
    lines += [
        line.partition(" = ")[2] for block in shown if block.language == "python" for line in block.text.splitlines()
    ]
    assert [pattern for pattern in NOT_RUN if not any(fnmatch(line, pattern) for line in lines)] == []
    python = {page: "".join(b.text for b in blocks(text) if b.language == "python") for page, text in texts.items()}
    assert [(page, old) for page, olds in REPLACED.items() for old in olds if old not in python[page]] == []
    assert {*BEFORE, *REPLACED, *IN_FULL} <= texts.keys()


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "robust-hub models --no-such-option"),
        ("sh", "robust-hub reproduce table6 --scale small --data cifar10=cifar10/ --no-such-option 1"),
        ("sh", "robust-hub certify --model nowhere/ --data cifar10/ --out runs/x"),
        ("sh", "robust-hub no-such-command"),
        ("sh", "robust-hub certify --model resnet19s_ln --data cifar10/ --out runs/x"),
        ("sh", "robust-hub app --model resnet18s_ln_mixednoise.no_such_tag"),
        ("sh", "python examples/certify.py --no-such-option"),
        ("sh", "python tools/no_such_tool.py"),
        pytest.param("sh", "python -m pytest tests/no_such_file.py", marks=pytest.mark.full),
        ("sh", "curl https://example.org"),
        ("python", "import robust_hub\nrobust_hub.no_such_name"),
        ("ruby", "puts 1"),
        ("", "robust-hub models"),
    ],
)
def test_a_page_that_is_wrong_fails(language, text, at_home):
    with pytest.raises((AssertionError, AttributeError, click.UsageError)):
        follow("docs/a page.md", f"# A page\n\n```{language}\n{text}\n```\n")


def test_a_shell_block_is_read_as_a_shell_reads_it():
    text = "a b \\\n  'c d' && e # f\n# g\n$ h\npython - <<'PY'\nx = 1\ny = 2\nPY\ni\n"
    read = [(one.line, one.words, one.given) for one in commands(Block(1, "sh", text))]
    assert [words for _, words, _ in read] == [("a", "b", "c d"), ("e",), ("h",), ("python", "-"), ("i",)]
    assert read[3][2] == "x = 1\ny = 2\n"
