"""A difference and its base make the weights again, bit for bit; nothing else does."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, DIFFERENCE, INDEX, WEIGHTS
from robust_hub.models import checkpoint
from robust_hub.models.checkpoint import read_weights, save_checkpoint
from robust_hub.models.config import Difference, read_config
from robust_hub.models.difference import decode, encode
from robust_hub.models.resnets import load_model
from robust_hub.models.stored import copy_whole, sha256
from robust_hub.models.tensors import pack, unpack
from robust_hub.provenance import Provenance

TYPES = [torch.bfloat16, torch.float16, torch.float32]
NAME = "resnet18s_bn"  # batch norm counts its batches in int64
BASE = f"{NAME}.base"


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same bits: NaN equals NaN, 0 is not -0."""
    bits = [{k: (v.dtype, v.shape, v.reshape(-1).view(torch.uint8).tolist()) for k, v in s.items()} for s in (one, two)]
    return bits[0] == bits[1]


# --- The format


@given(data=st.data(), dtype=st.sampled_from(TYPES), base_type=st.sampled_from(TYPES))
def test_any_bits_come_back(data: st.DataObject, dtype: torch.dtype, base_type: torch.dtype) -> None:
    """Whatever the two hold, NaN, infinities and zeros of both signs among it."""

    def draw(kind: torch.dtype) -> Tensor:
        width = torch.empty(0, dtype=kind).element_size()
        content = data.draw(st.binary(min_size=6 * width, max_size=6 * width))
        return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).view(kind).view(2, 3)

    state = {"w": draw(dtype), "new": draw(dtype)[0], "count": torch.tensor(7)}
    base = {"w": draw(base_type), "new": draw(base_type), "gone": draw(base_type), "count": torch.tensor(3)}
    assert same(decode(encode(state, base), base), state)


def test_little_changed_takes_little() -> None:
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(100, 1000, generator=generator).half()}
    bits = base["w"].bfloat16().view(torch.int16)
    moved = (bits + (torch.rand(bits.shape, generator=generator) < 0.06)).view(torch.bfloat16)
    content = encode({"w": moved, "fc": torch.ones(10, dtype=torch.bfloat16)}, base)
    assert len(content) < 0.1 * 2 * moved.numel()
    assert content == encode({"fc": torch.ones(10, dtype=torch.bfloat16), "w": moved}, base)
    stored, metadata = unpack(zlib.decompress(content))
    assert metadata == {"dtype": "bfloat16"} and (stored["w"].dtype, stored["fc"].dtype) == (
        torch.int16,
        torch.bfloat16,
    )
    assert set(stored["w"].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    "state",
    [
        {"n": torch.tensor(1)},
        {"a": torch.ones(2), "b": torch.ones(2).half()},
        {"a": torch.ones(2, dtype=torch.float64)},
    ],
)
def test_weights_that_are_not_of_one_known_type_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="expected weights of one type among torch.float32, .*got"):
        encode(state, {})


def promising(count: Any) -> bytes:
    """The front of a safetensors file whose header says that so many bytes of a tensor follow."""
    entry = {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}
    header = json.dumps({"__metadata__": {"dtype": "bfloat16"}, "w": entry}).encode()
    return len(header).to_bytes(8, "little") + header


def test_what_unpacks_to_more_than_it_says_is_not_unpacked() -> None:
    bomb = zlib.compress(promising(24) + bytes(2**26), 9)
    assert len(bomb) < 70_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="holds more bytes than its header says"):
            decode(bomb, {"w": torch.ones(2, 3)})
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"\0" + content, "zlib|header|incorrect"),
        (lambda content: content[:-5], "cut short"),
        (lambda content: content + b"x", "behind its end"),
        (lambda content: zlib.compress(b"no tensors at all"), "header|deserializ"),
        (lambda content: zlib.compress(pack({"w": torch.ones(2)}, {})), "it is of type None"),
        (
            lambda content: zlib.compress(pack({"w": torch.ones(7, dtype=torch.int16)}, {"dtype": "bfloat16"})),
            r"w has shape \(7,\), its base has \(2, 3\)",
        ),
        (lambda content: zlib.compress(promising(2**28 + 2**20)), "holds more than 268435504 bytes"),
        (lambda content: zlib.compress((10**12).to_bytes(8, "little")), "its header takes 1000000000000 bytes"),
        (lambda content: zlib.compress(bytes(2**20)), "expected a readable header, got"),
        (lambda content: zlib.compress(promising(24) + bytes(2**22)), "more bytes than its header says"),
        (lambda content: zlib.compress(promising(24)), "cut short|incomplete|MetadataIncompleteBuffer"),
        (lambda content: zlib.compress(promising("many")), "no safetensors header"),
        (lambda content: zlib.compress(promising(-8)), "non-negative"),
    ],
)
def test_damage_is_an_error(change: Callable[[bytes], bytes], said: str) -> None:
    base = {"w": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=said):
        decode(change(encode({"w": torch.ones(2, 3).bfloat16()}, base)), base)


# --- A checkpoint's folder


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module]:
    """A network and what a little training might make of it, with another classifier."""
    torch.manual_seed(0)
    first, second = timm.create_model(NAME, num_classes=7), timm.create_model(NAME, num_classes=5)
    state = first.state_dict() | {k: v for k, v in second.state_dict().items() if "fc" in k}
    for value in state.values():
        value += 1e-4 * torch.randn(value.shape) if value.is_floating_point() else 3
    second.load_state_dict(state)
    return first.eval(), second.eval()


@pytest.fixture
def shelf(models: tuple[nn.Module, nn.Module], tmp_path: Path) -> Path:
    """A base, a difference to it, and the same weights whole."""
    save_checkpoint(models[0], tmp_path / BASE, dtype=torch.float16)
    for name, base in (("difference", BASE), ("whole", None)):
        save_checkpoint(
            models[1], tmp_path / name, dtype=torch.bfloat16, provenance=Provenance.from_json({"epochs": 1}), base=base
        )
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def test_a_difference_is_read_as_the_weights_that_it_stands_for(shelf: Path) -> None:
    files = sorted(path.name for path in (shelf / "difference").iterdir())
    assert files == [CONFIG, DIFFERENCE]
    assert same(read_weights(shelf / "difference", norm="bn", stem="cifar_s2"), read_weights(shelf / "whole"))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_model(shelf / "difference").eval()(x), load_model(shelf / "whole").eval()(x))
    config, whole = read_config(shelf / "difference"), read_config(shelf / "whole")
    hashes = {WEIGHTS: sha256(shelf / BASE / WEIGHTS)}
    assert config.difference == Difference(BASE, hashes, sha256(shelf / "difference" / DIFFERENCE))
    assert replace(config, difference=None) == whole and whole.sha256 == {WEIGHTS: sha256(shelf / "whole" / WEIGHTS)}


def test_networks_in_timms_words_have_differences_too(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_ln", stem="imagenet", num_classes=3)
    save_checkpoint(model, tmp_path / BASE)
    save_checkpoint(model, tmp_path / "difference", dtype=torch.bfloat16, base=BASE)
    save_checkpoint(model, tmp_path / "whole", dtype=torch.bfloat16)
    assert same(read_weights(tmp_path / "difference"), read_weights(tmp_path / "whole"))
    assert type(load_model(tmp_path / "difference")).__name__ == "RobustResNet"


def test_a_copy_is_whole(shelf: Path, tmp_path: Path) -> None:
    for name in ("difference", "whole"):
        copy = tmp_path / "copy" / name
        copy.mkdir(parents=True)
        copy_whole(shelf / name, copy)
        assert {p.name: p.read_bytes() for p in copy.iterdir()} == {
            p.name: p.read_bytes() for p in (shelf / "whole").iterdir()
        }


def test_split_weights_have_one_difference(
    models: tuple[nn.Module, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD", 2_000_000)
    save_checkpoint(models[0], tmp_path / BASE)
    save_checkpoint(models[1], tmp_path / "whole", dtype=torch.bfloat16)
    save_checkpoint(models[1], tmp_path / "difference", dtype=torch.bfloat16, base=BASE)
    monkeypatch.setattr(checkpoint, "SHARD", 1)  # what is read does not depend on how one would split today
    assert sorted(path.name for path in (tmp_path / "difference").iterdir()) == [CONFIG, DIFFERENCE, INDEX]
    parts = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert len(parts) > 1 and same(read_weights(tmp_path / "difference"), read_weights(tmp_path / "whole"))
    (tmp_path / "copy").mkdir()
    copy_whole(tmp_path / "difference", tmp_path / "copy")
    assert all((tmp_path / "copy" / p.name).read_bytes() == p.read_bytes() for p in (tmp_path / "whole").iterdir())
    for broken in ("{", json.dumps({"weight_map": {}}), json.dumps([])):
        (tmp_path / "difference" / INDEX).write_text(broken)
        with pytest.raises(
            CheckpointError, match=r"index.json is damaged|difference.safetensors.zlib and its base make"
        ):
            read_weights(tmp_path / "difference")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def swap(shelf: Path, models: tuple[nn.Module, nn.Module]) -> None:
    save_checkpoint(models[1], shelf / BASE)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda s, m: flip(s / "difference" / DIFFERENCE, 1000), rf"{DIFFERENCE} has sha256 .*promises .*damaged"),
        (lambda s, m: flip(s / "difference" / DIFFERENCE, -1), rf"{DIFFERENCE} has sha256 .*promises .*damaged"),
        (
            lambda s, m: (s / "difference" / DIFFERENCE).write_bytes(b"x" * 999),
            rf"{DIFFERENCE} has sha256 .*promises .*damaged",
        ),
        (lambda s, m: (s / "difference" / DIFFERENCE).unlink(), rf"expected weights in .*{DIFFERENCE}, found none"),
        (
            lambda s, m: flip(s / BASE / WEIGHTS, -9),
            rf"the base of .*difference: .*{BASE}/{WEIGHTS} has sha256 .*damaged",
        ),
        (
            lambda s, m: (s / BASE / WEIGHTS).write_bytes((s / BASE / WEIGHTS).read_bytes()[:-9]),
            rf"the base of .*difference: .*{BASE}/{WEIGHTS} has sha256 .*damaged",
        ),
        (lambda s, m: (s / BASE / WEIGHTS).unlink(), rf"the base of .*difference: expected weights in .*{BASE}"),
        (swap, rf"difference holds a difference to {BASE}, but not to the weights in .*{BASE}: .*another sha256"),
        (
            lambda s, m: shutil.rmtree(s / BASE),
            rf"difference holds a difference to {BASE}, but {BASE} has no trained weights in",
        ),
        (lambda s, m: (s / BASE / CONFIG).write_text("{"), r"base/config.json is damaged"),
    ],
)
def test_every_harm_is_a_sentence_that_names_what_is_wrong(
    shelf: Path, models: tuple[nn.Module, nn.Module], harm: Callable[..., Any], said: str
) -> None:
    harm(shelf, models)
    for read in (read_weights, load_model):
        with pytest.raises(CheckpointError, match=said):
            read(shelf / "difference")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("base"), "names no base of its difference"),
        (
            lambda d: d.update(base="../difference.base"),
            "names the base '../difference.base' of its difference, expected a checkpoint's name",
        ),
        (lambda d: d.update(base=".."), r"names the base '\.\.' of its difference, expected a checkpoint's name"),
        (lambda d: d.update(base_sha256=None), "names no base of its difference"),
        (lambda d: d.update(base="difference"), "difference holds a difference to difference, but not to the weights"),
    ],
)
def test_a_base_that_is_none_is_refused(shelf: Path, change: Callable[..., Any], said: str) -> None:
    shutil.copytree(shelf / BASE, shelf.parent / "difference.base", dirs_exist_ok=True)  # names stay beside the folder
    edit(shelf / "difference", lambda config: change(config["robust_hub"]["difference"]))
    with pytest.raises(CheckpointError, match=said):
        read_weights(shelf / "difference")


def test_an_honest_difference_of_other_weights_is_found_out(shelf: Path, models: tuple[nn.Module, nn.Module]) -> None:
    """The hash of the whole weights has the last word, whatever the difference says of itself."""
    base = load_file(shelf / BASE / WEIGHTS)
    state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in models[1].state_dict().items()}
    state["fc.bias"] = state["fc.bias"] + 1
    (shelf / "difference" / DIFFERENCE).write_bytes(encode(state, base))
    edit(
        shelf / "difference",
        lambda c: c["robust_hub"]["difference"].update(sha256=sha256(shelf / "difference" / DIFFERENCE)),
    )
    with pytest.raises(CheckpointError, match=f"make another {WEIGHTS} than config.json promises"):
        read_weights(shelf / "difference")


def test_the_norm_of_the_network_is_compared(shelf: Path) -> None:
    with pytest.raises(CheckpointError, match="holds weights of norm 'bn', the model has norm 'gn'"):
        read_weights(shelf / "difference", norm="gn")
    edit(shelf / "difference", lambda c: c["robust_hub"].update(norm="ln"))
    with pytest.raises(CheckpointError, match="make another .* than config.json promises"):
        read_weights(shelf / "difference")


def test_only_another_checkpoint_with_weights_of_its_own_is_a_base(
    shelf: Path, models: tuple[nn.Module, nn.Module]
) -> None:
    for name, base in (("third", "difference"), ("whole", "whole")):
        with pytest.raises(ValueError, match="expected another checkpoint with weights of its own as base"):
            save_checkpoint(models[1], shelf / name, base=base)
    for base in ("nowhere", "../whole", ""):
        with pytest.raises(
            CheckpointError, match="expected the name of a checkpoint as base: .*has no trained weights"
        ):
            save_checkpoint(models[1], shelf / "third", base=base)
    assert not (shelf / "third" / CONFIG).exists()


def test_whole_weights_replace_a_difference_and_a_difference_whole_weights(
    shelf: Path, models: tuple[nn.Module, nn.Module]
) -> None:
    save_checkpoint(models[1], shelf / "whole", dtype=torch.bfloat16, base=BASE)
    save_checkpoint(models[1], shelf / "difference", dtype=torch.bfloat16)
    assert sorted(path.name for path in (shelf / "whole").iterdir()) == [CONFIG, DIFFERENCE]
    assert sorted(path.name for path in (shelf / "difference").iterdir()) == [CONFIG, WEIGHTS]
    assert same(read_weights(shelf / "difference"), read_weights(shelf / "whole"))
