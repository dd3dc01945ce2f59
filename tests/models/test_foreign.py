"""Round trips with other libraries: what timm and transformers write of our networks loads again, or says why not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from robust_hub.cli.main import main
from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, WEIGHTS
from robust_hub.models.adopt import adopt
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.classes import note_class_names
from robust_hub.models.config import read_config
from robust_hub.models.labels import name_classes
from robust_hub.models.resnets import load_model
from robust_hub.provenance import Provenance, summary
from robust_hub.publishing.cards import card
from robust_hub.publishing.evidence import read_evidence
from robust_hub.publishing.hub import verify

TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 3}
PETS = ("cat", "dog", "owl")
UNCHECKED = "is not checked: no hashes, another library wrote its config.json; `robust-hub adopt .*` checks"


def made(name: str = "resnet18s_gn", **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **{**TINY, **kwargs}).eval()
    return model


def images(channels: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def every_warning() -> Iterator[None]:
    """A number of warnings is what is tested here: each is given every time."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


@pytest.fixture
def by_timm(tmp_path: Path) -> Path:
    save_for_hf(made(), tmp_path / "timm", safe_serialization=True)
    return tmp_path / "timm"


def loads(folder: Path) -> Iterator[nn.Module]:
    """Load a folder by each door; a warning each, and no more."""
    for load in (load_model, lambda one: timm.create_model(f"local-dir:{one}", pretrained=True)):
        with pytest.warns(UserWarning, match=UNCHECKED) as told:
            model = load(folder)
        assert len([one for one in told if "not checked" in str(one.message)]) == 1
        yield model.eval()


# --- timm


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18s_gn", {}),
        ("resnet18s_in", {"stem": "cifar"}),
        ("resnet18s_ln", {"in_chans": 1}),
        ("resnet18s_bn", {"num_classes": 0}),
        ("resnet18s_ln_mixednoise", {"global_pool": "max", "act_layer": "gelu"}),
        ("resnet18s_ln", {"stem": "imagenet", "stem_type": "deep"}),
    ],
)
def test_what_timm_saves_loads_again(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model, x = made(name, **arguments), images(arguments.get("in_chans", 3), 64)
    save_for_hf(model, tmp_path / "x", safe_serialization=True)
    for loaded in loads(tmp_path / "x"):
        assert torch.equal(loaded(x), model(x))
    loaded = load_model(adopt(tmp_path / "x"))
    assert torch.equal(loaded(x), model(x))
    config = read_config(verify(tmp_path / "x"))
    assert (config.norm, config.stem) == (model.norm_kind, model.stem) and config.probe is not None


def test_by_name_and_address_of_the_user(by_timm: Path) -> None:
    with pytest.warns(UserWarning, match=UNCHECKED):
        model = made(pretrained=True, pretrained_cfg_overlay={"file": str(by_timm)})
    assert torch.equal(model(images()), made()(images()))
    with pytest.warns(UserWarning, match=UNCHECKED):
        assert load_model(by_timm, num_classes=5)(images()).shape == (2, 5)


def test_names_travel_with_timm(tmp_path: Path) -> None:
    model = made()
    note_class_names(model, PETS)
    model = load_model(save_checkpoint(model, tmp_path / "ours"))
    save_for_hf(model, tmp_path / "own", safe_serialization=True)
    save_for_hf(made(), tmp_path / "given", safe_serialization=True, model_config={"label_names": list(PETS)})
    for folder in ("own", "given"):
        for loaded in loads(tmp_path / folder):
            assert loaded.pretrained_cfg["label_names"] == PETS
        assert read_config(adopt(tmp_path / folder)).label_names == PETS


def test_what_cannot_be_ours_is_refused(by_timm: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds weights of resnet18s_gn, the model is resnet18s_ln"):
        made("resnet18s_ln", pretrained=True, pretrained_cfg_overlay={"file": str(by_timm)})
    with pytest.raises(CheckpointError, match="holds weights of stem 'cifar_s2', the model has stem 'cifar'"):
        load_model(by_timm, stem="cifar")
    with pytest.raises(CheckpointError, match="names no robust_hub, so no hashes to check: `robust-hub adopt"):
        verify(by_timm)
    state = load_file(by_timm / WEIGHTS)
    save_file({k: v for k, v in state.items() if k != "fc.bias"}, str(by_timm / WEIGHTS))
    for refused in (load_model, adopt):
        with pytest.raises(CheckpointError, match="missing fc.bias"):
            refused(by_timm)
    (by_timm / WEIGHTS).write_bytes(b"no tensors")
    for refused in (load_model, adopt):
        with pytest.raises(CheckpointError, match="is no safetensors file"):
            refused(by_timm)
    (by_timm / WEIGHTS).unlink()
    for refused in (load_model, adopt):
        with pytest.raises(CheckpointError, match="expected weights in .*, got none: fetch them, or save"):
            refused(by_timm)


def test_a_name_is_never_loaded_unchecked(by_timm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(by_timm, tmp_path / "shelf" / "resnet18s_gn_mixednoise")
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path / "shelf"))
    with pytest.raises(CheckpointError, match="names no robust_hub, so no hashes to check"):
        made("resnet18s_gn_mixednoise", pretrained=True)
    with pytest.raises(CheckpointError, match="names no robust_hub, so no hashes to check"):
        save_checkpoint(made(), tmp_path / "x", base="resnet18s_gn_mixednoise")
    adopt(tmp_path / "shelf" / "resnet18s_gn_mixednoise")
    assert torch.equal(made("resnet18s_gn_mixednoise", pretrained=True)(images()), made()(images()))


def test_a_pickle_is_opened_by_adopt_alone(tmp_path: Path) -> None:
    model = made()
    save_for_hf(model, tmp_path)
    words = r"got pytorch_model.bin, a pickle, which is not opened: save them with .*safe_serialization=True\), or `rob"
    for load in (load_model, lambda folder: timm.create_model(f"local-dir:{folder}", pretrained=True)):
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)
    assert torch.equal(load_model(adopt(tmp_path))(images()), model(images()))
    assert read_config(tmp_path).provenance == Provenance(notes={"saved_by": "timm"})


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("content", [{"x": Bomb()}, [1, 2], {"x": 1}, b"", b"\x80\x04"])
def test_a_pickle_runs_nothing(content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_for_hf(made(), tmp_path / "x")
    file = tmp_path / "x" / "pytorch_model.bin"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match="cannot be read as tensors|expected tensors by name in"):
        adopt(tmp_path / "x")
    assert not (tmp_path / "exploded").exists()


# --- adopt


def test_what_is_sound_already_is_left_as_it_is(tmp_path: Path) -> None:
    save_checkpoint(made(), tmp_path)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    adopt(tmp_path)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("fc.weight", float("nan"), "fc.weight of the weights in .* is not finite"), ("fc.weight", 3e38, "not finite")],
)
def test_numbers_that_are_none(key: str, value: float, words: str, tmp_path: Path) -> None:
    model = made()
    model.state_dict()[key].fill_(value)
    save_for_hf(model, tmp_path, safe_serialization=True)
    before = (tmp_path / CONFIG).read_bytes()
    with pytest.raises(CheckpointError, match=words):
        adopt(tmp_path)
    assert (tmp_path / CONFIG).read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_file_is_kept(dtype: torch.dtype, by_timm: Path) -> None:
    state = {k: v.to(dtype) for k, v in load_file(by_timm / WEIGHTS).items()}
    save_file(state, str(by_timm / WEIGHTS))
    after = load_file(adopt(by_timm) / WEIGHTS)
    assert all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in state.items())


def test_the_hubs_cache_is_not_written(by_timm: Path, tmp_path: Path) -> None:
    cached = tmp_path / "models--me--my--net" / "snapshots" / ("0" * 40)
    shutil.copytree(by_timm, cached)
    with pytest.raises(ValueError, match=r"in the Hub's cache: `hf download me/my--net --local-dir FOLDER`, then `rob"):
        adopt(cached)
    with pytest.warns(UserWarning, match="hf download me/my--net --local-dir FOLDER"):
        load_model(cached)


# --- transformers


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ours with named classes and a training, as transformers will find it."""
    model = made()
    note_class_names(model, PETS)
    provenance = Provenance(job="finetune", data="pets", epochs=1)
    return save_checkpoint(model, tmp_path_factory.mktemp("ours") / "pets", provenance=provenance)


@pytest.fixture(scope="module")
def by_transformers(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers saves of it after its weights were changed."""
    library = pytest.importorskip("transformers")
    model = library.AutoModelForImageClassification.from_pretrained(ours, dtype="float32")
    with torch.no_grad():
        model.timm_model.fc.bias += torch.tensor([1.0, 2.0, 3.0])
    folder = tmp_path_factory.mktemp("transformers") / "saved"
    model.save_pretrained(folder)
    return folder


def test_transformers_computes_the_same_and_names_classes(ours: Path) -> None:
    library = pytest.importorskip("transformers")
    model = library.AutoModelForImageClassification.from_pretrained(ours, dtype="float32").eval()
    with torch.inference_mode():
        assert torch.equal(model(images()).logits, load_model(ours)(images()))
    assert model.config.id2label == dict(enumerate(PETS))
    pipeline = library.pipeline("image-classification", model=str(ours), device="cpu")
    answers = pipeline(Image.new("RGB", (40, 40), (200, 10, 10)))
    assert {one["label"] for one in answers} == set(PETS)
    assert sum(one["score"] for one in answers) == pytest.approx(1, abs=1e-3)


def test_its_folder_says_who_saved_it_and_what_to_do(by_transformers: Path, ours: Path) -> None:
    words = r"transformers [\d.]+\S* saved it after config.json was written; `robust-hub adopt .*saved` checks what"
    for load in (load_model, lambda folder: timm.create_model(f"local-dir:{folder}", pretrained=True), verify):
        with pytest.raises(CheckpointError, match=words):
            load(by_transformers)


def test_adopted_it_is_a_checkpoint(by_transformers: Path, ours: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(by_transformers, tmp_path / "saved"))
    done = CliRunner().invoke(main, ["adopt", str(folder)])
    assert done.exit_code == 0 and "layers and logits are sound" in done.output, done.output
    want = load_model(ours)(images()) + torch.tensor([1.0, 2.0, 3.0])
    for model in (load_model(folder), timm.create_model(f"local-dir:{folder}", pretrained=True).eval()):
        torch.testing.assert_close(model(images()), want)
        assert model.pretrained_cfg["label_names"] == PETS
    config = read_config(verify(folder))
    provenance = config.provenance
    assert provenance is not None and provenance.base is not None
    assert re.fullmatch(r"transformers [\d.]+\S*", provenance.notes["saved_by"]) and provenance.base.data == "pets"
    assert summary(provenance).startswith("trained elsewhere and saved by transformers ")


def test_the_card_of_what_was_adopted_claims_nothing_of_its_training(by_timm: Path) -> None:
    text = card(read_evidence("resnet18s_gn.mine", adopt(by_timm)))
    assert "trained elsewhere and saved by timm. How it was trained is not known here" in text
    assert "baseline" not in text and "| saved by | timm |" in text


def test_a_damaged_file_of_ours_is_no_other_librarys(ours: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ours, tmp_path / "copy"))
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="the file is damaged or another one; fetch or train"):
        load_model(folder)
    save_file(load_file(ours / WEIGHTS), str(folder / WEIGHTS))
    with pytest.raises(CheckpointError, match="another library saved it after config.json was written; `robust-hub"):
        load_model(folder)


def test_trainer(ours: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    named = Path(shutil.copytree(ours, tmp_path / "ours"))
    name_classes(named, ["red", "green", "blue"])
    model = library.AutoModelForImageClassification.from_pretrained(named, dtype="float32")
    rows = [{"pixel_values": x, "labels": k} for k, x in enumerate(torch.rand(3, 3, 32, 32))]
    options = library.TrainingArguments(
        str(tmp_path / "out"), max_steps=1, report_to=[], save_steps=1, use_cpu=True, disable_tqdm=True
    )
    trainer = library.Trainer(model=model, args=options, train_dataset=rows)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    for folder in (tmp_path / "final", tmp_path / "out" / "checkpoint-1"):
        with pytest.raises(CheckpointError, match="transformers .* saved it .*`robust-hub adopt"):
            load_model(folder)
        loaded = load_model(adopt(folder))
        with torch.inference_mode():
            torch.testing.assert_close(loaded(images()), model.eval()(images()).logits)
        assert loaded.pretrained_cfg["label_names"] == ("red", "green", "blue")


def test_names_that_transformers_made_up_are_none(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    save_checkpoint(made(), tmp_path / "ours")
    model = library.AutoModelForImageClassification.from_pretrained(tmp_path / "ours", dtype="float32")
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / CONFIG).read_text())["label_names"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert read_config(adopt(tmp_path / "saved")).label_names is None


@pytest.mark.full
def test_without_the_import_other_programs_say_something_else(ours: Path) -> None:
    """What the card warns of is still so."""
    pytest.importorskip("transformers")
    code = "import sys, transformers\ntransformers.AutoModelForImageClassification.from_pretrained(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(ours)], capture_output=True, text=True)
    assert done.returncode and "not supported in your version of timm" in done.stderr
