"""The source that was asked for, and what wins: every cell of the docs' table in every way of asking."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.models import PretrainedCfg
from torch import Tensor, nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models import shelves
from robust_hub.models.asked import Asked, asked_for, folder_of
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.resnets import load_model

NAME, REPO, SHA = "resnet18s_ln_mixednoise", "me/mine", "c" * 40
MEAN, OTHER_MEAN, NEW_MEAN = (0.1, 0.2, 0.3), (0.4, 0.4, 0.4), (0.9, 0.9, 0.9)


def save(folder: Path, seed: int, classes: int, mean: tuple[float, ...], **kwargs: Any) -> Path:
    torch.manual_seed(seed)
    overlay = {"mean": mean}
    model = timm.create_model("resnet18s_ln", num_classes=classes, pretrained_cfg_overlay=overlay, **kwargs)
    return save_checkpoint(model, folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The checkpoint that is named, which pools by the maximum, and another one."""
    root = tmp_path_factory.mktemp("saved")
    return save(root / NAME, 1, 7, MEAN, global_pool="max"), save(root / "other", 2, 5, OTHER_MEAN)


WAYS: dict[str, Callable[..., Any]] = {
    "create_model(name)": lambda folder, **kwargs: timm.create_model(NAME, pretrained=True, **kwargs),
    "load_model(name)": lambda folder, **kwargs: load_model(NAME, **kwargs),
    "load_model(folder)": lambda folder, **kwargs: load_model(folder, **kwargs),
    "create_model(local-dir)": lambda folder, **kwargs: timm.create_model(
        f"local-dir:{folder}", pretrained=True, **kwargs
    ),
    "load_model(local-dir)": lambda folder, **kwargs: load_model(f"local-dir:{folder}", **kwargs),
    "create_model(hf-hub)": lambda folder, **kwargs: timm.create_model(f"hf-hub:{REPO}", pretrained=True, **kwargs),
    "load_model(hf-hub)": lambda folder, **kwargs: load_model(f"hf-hub:{REPO}", **kwargs),
}


@pytest.fixture(params=WAYS)
def ask(
    request: pytest.FixtureRequest, saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """One way of asking for the checkpoint that is named, on a shelf and in the Hub's cache."""
    folder, _ = saved
    monkeypatch.setattr(shelves, "shelves", lambda: [folder.parent])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cached = tmp_path / f"models--{REPO.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(SHA)
    shutil.copytree(folder, cached / "snapshots" / SHA)
    way = WAYS[request.param]
    return lambda **kwargs: way(folder, **kwargs).eval()


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


def holds(model: nn.Module, state: dict[str, Tensor], *, head: bool = True) -> bool:
    """Whether a network has these weights."""
    mine = model.state_dict()
    return all(torch.equal(mine[key], value) for key, value in state.items() if head or not key.startswith("fc."))


def mean(model: Any) -> tuple[float, ...]:
    return tuple(model.pretrained_cfg["mean"])


def weights_by_overlay(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    model = ask(pretrained_cfg_overlay={"file": str(other)}, global_pool="avg")
    assert holds(model, weights(other)) and (model.num_classes, mean(model)) == (5, OTHER_MEAN)
    assert model.pretrained_cfg["file"] == str(other / WEIGHTS)


def weights_by_tensors(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    state = {key: value + 1 for key, value in weights(folder).items()}
    assert holds(ask(pretrained_cfg_overlay={"state_dict": state, "num_classes": 7}), state)


def weights_by_address(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    assert holds(ask(), weights(folder))


def network_by_argument(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    model = ask(num_classes=3)
    assert holds(model, weights(folder), head=False) and model.fc.weight.shape == (3, 256)


def pooling_by_argument(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    assert ask(global_pool="avg").global_pool.pool_type == "avg"


def network_by_config(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    model = ask()
    assert (model.num_classes, model.global_pool.pool_type) == (7, "max")
    model.reset_classifier(2)
    save_checkpoint(model, other.parent / "again")  # what the config said is known to the next one


def images_by_overlay(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    model = ask(pretrained_cfg_overlay={"mean": NEW_MEAN, "input_size": (3, 48, 48), "std": None})
    assert holds(model, weights(folder)) and mean(model) == NEW_MEAN
    assert model.pretrained_cfg["input_size"] == (3, 48, 48) and model.pretrained_cfg["std"] == (0.229, 0.224, 0.225)


def images_by_config(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    assert mean(ask()) == MEAN


def facts_by_overlay(ask: Callable[..., Any], folder: Path, other: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the 7 classes of the weights .*, got 3: .* pass num_classes=3"):
        ask(pretrained_cfg_overlay={"num_classes": 3})
    with pytest.raises(ValueError, match=r"expected the 3 channels of the weights .*, got 1: .* pass in_chans=1"):
        ask(pretrained_cfg_overlay={"input_size": (1, 32, 32)})
    model = ask(pretrained_cfg_overlay={"num_classes": -1}, num_classes=7)
    assert holds(model, weights(folder), head=False) and not holds(model, weights(folder))


CELLS = (
    *(weights_by_overlay, weights_by_tensors, weights_by_address, network_by_argument, pooling_by_argument),
    *(network_by_config, images_by_overlay, images_by_config, facts_by_overlay),
)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_every_cell_of_the_docs_table(
    cell: Callable[..., None], ask: Callable[..., Any], saved: tuple[Path, Path]
) -> None:
    cell(ask, *saved)


def test_the_docs_table_has_these_cells() -> None:
    page = Path(__file__).parents[2] / "docs" / "loading.md"
    if not page.exists():
        pytest.skip("the documentation is not part of this copy")
    rows = re.findall(r"^\| (\w+ by \w+) \|", page.read_text(), flags=re.MULTILINE)
    assert rows == [cell.__name__.replace("_", " ") for cell in CELLS]
    order = re.findall(r"^\| images \| (.*) \|$", page.read_text(), flags=re.MULTILINE)
    assert order == ["`pretrained_cfg_overlay` | `config.json` | `pretrained_cfg` | the name"]


def test_a_pretrained_cfg_says_where_and_is_the_last_to_say_how(saved: tuple[Path, Path]) -> None:
    folder, other = saved
    for given in ({"file": str(other), "mean": NEW_MEAN}, PretrainedCfg(file=str(other), mean=NEW_MEAN)):
        for model in (
            timm.create_model("resnet18s_ln", pretrained=True, pretrained_cfg=given),
            load_model(folder, pretrained_cfg=given, global_pool="avg"),
        ):
            assert holds(model, weights(other)) and mean(model) == OTHER_MEAN
    state = {key: value + 1 for key, value in weights(other).items()}
    given = {"state_dict": state, "num_classes": 5}
    assert holds(timm.create_model("resnet18s_ln", pretrained=True, pretrained_cfg=given), state)


def test_a_folder_without_its_weights_is_asked_for_with_pretrained_false(saved: tuple[Path, Path]) -> None:
    model = load_model(saved[0], pretrained=False)
    assert not holds(model, weights(saved[0])) and model.num_classes == 7 and not model.training


@pytest.mark.parametrize(
    ("given", "overlay", "want"),
    [
        (None, {}, Asked()),
        ("tag", {"url": "", "file": None}, Asked()),
        ({"file": "a"}, {}, Asked("file", "a")),
        ({"file": "a"}, {"hf_hub_id": "b/c"}, Asked("hf_hub_id", "b/c")),
        ({"hf_hub_id": "b/c", "source": "hf-hub"}, {"file": "a"}, Asked("file", "a")),
        ({"hf_hub_id": "b/c", "file": "a", "source": "hf-hub"}, {}, Asked("hf_hub_id", "b/c")),
        ({"hf_hub_id": "b/c", "file": "a", "source": "local-dir"}, {}, Asked("file", "a")),
        (None, {"url": "u", "hf_hub_id": "b/c", "file": "a"}, Asked("file", "a")),
        (None, {"hf_hub_filename": "x"}, Asked(filename="x")),
        (PretrainedCfg(hf_hub_id="b/c", url="u"), {}, Asked("hf_hub_id", "b/c")),
    ],
)
def test_the_first_that_names_a_source_decides(given: Any, overlay: dict[str, Any], want: Asked) -> None:
    assert asked_for(given, overlay) == want


@pytest.fixture
def crowded(saved: tuple[Path, Path], tmp_path: Path) -> Path:
    """A checkpoint with other files of weights beside it."""
    folder = Path(shutil.copytree(saved[1], tmp_path / "crowded"))
    state = {key: value + 1 for key, value in weights(folder).items()}
    save_file(state, folder / "ema.safetensors")
    save_file(state, tmp_path / "lone.safetensors")
    for name in ("last.pth.tar", "pytorch_model.bin"):
        torch.save({"state_dict": state}, folder / name)
    return folder


REFUSED = [
    ("ema.safetensors", r"config.json names \(model.safetensors\), got ema.safetensors, whose hash.*checkpoint_path="),
    ("last.pth.tar", r"file of weights in safetensors, got last.pth.tar: no other is opened here; .*checkpoint_path="),
    ("pytorch_model.bin", r"file of weights in safetensors, got pytorch_model.bin: no other is opened"),
    ("nosuch.safetensors", r"config.json names \(model.safetensors\), got nosuch.safetensors, which is not there"),
    ("../nosuch", r"expected a checkpoint folder or a file of its weights, got .*/nosuch, which is not there"),
    (
        "../lone.safetensors",
        r"expected weights with their config.json beside them, got .*/lone.safetensors without one",
    ),
    ("..", r"expected a checkpoint folder with config.json and model.safetensors, found no "),
]


@pytest.mark.parametrize(("file", "said"), REFUSED)
@pytest.mark.parametrize("where", ["pretrained_cfg_overlay", "pretrained_cfg"])
def test_the_very_file_or_a_refusal(where: str, file: str, said: str, crowded: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        timm.create_model("resnet18s_ln", pretrained=True, **{where: {"file": str(crowded / file)}})


def test_files_of_a_checkpoint_mean_it(crowded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [folder_of(crowded / name) for name in ("", CONFIG, WEIGHTS)] == [crowded] * 3
    monkeypatch.setenv("HOME", str(crowded.parent))
    assert folder_of(f"~/crowded/{WEIGHTS}") == crowded


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ({"url": "https://a.b/c.safetensors"}, r"got the url https://a.b/c.safetensors, whose hash, norm and layers"),
        (
            {"hf_hub_filename": "ema.safetensors"},
            r"names \(model.safetensors\), got ema.safetensors, which is not there",
        ),
        ({"hf_hub_filename": "pytorch_model.bin"}, r"in safetensors, got pytorch_model.bin: no other is opened here"),
        ({"hf_hub_id": "me/x", "hf_hub_filename": "x.pth"}, r"in safetensors, got x.pth: no other is opened here"),
    ],
)
def test_other_places_of_timms_are_refused(overlay: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay)


def test_layers_that_the_weights_lack_are_not_left_random(saved: tuple[Path, Path]) -> None:
    for layers in ((2, 2, 2, 3), (2, 2, 2, 1)):
        with pytest.raises(CheckpointError, match=r"not of the network that is asked for, layer4\.\S+ is in one alone"):
            load_model(saved[1], layers=layers, num_classes=3)
