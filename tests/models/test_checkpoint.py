"""A checkpoint folder: what is written, and every way in which it can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import load_torch_model
from safetensors.torch import load_file, save_file
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, INDEX, WEIGHTS
from robust_hub.models import checkpoint, identity
from robust_hub.models.checkpoint import check_keys, read_weights, save_checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.plain import check_plain_timm
from robust_hub.models.resnets import load_model
from robust_hub.models.stored import sha256
from robust_hub.provenance import Provenance
from robust_hub.publishing.hub import verify

NAME = "resnet18s_ln"
TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny work: on a busy machine, threads that wait for one another cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=7).eval()


@pytest.fixture(scope="module")
def saved(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(
        model, tmp_path_factory.mktemp("saved") / "deep" / "er", provenance=Provenance.from_json({"epochs": 3})
    )


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def rewrite(folder: Path, state: dict[str, torch.Tensor], **metadata: str) -> None:
    """Other weights with an honest hash, so that the hash is not what refuses them."""
    told = {"format": "pt", "architecture": NAME, "norm": "ln", "stem": "cifar_s2", **metadata}
    save_file(state, str(folder / WEIGHTS), metadata=told)
    edit(folder, lambda c: c["robust_hub"].update(sha256=sha256(folder / WEIGHTS)))


def test_round_trip_is_exact(model: nn.Module, saved: Path) -> None:
    state = read_weights(saved, norm="ln", stem="cifar_s2")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_model(saved).eval()(x), model(x))


def test_config_says_what_it_is(saved: Path) -> None:
    config = read_config(saved)
    assert (config.architecture, config.num_classes, config.num_features) == (NAME, 7, 256)
    assert config.input_size == (3, 32, 32)
    assert config.pretrained_cfg["num_classes"] == 7
    digest = sha256(saved / WEIGHTS)
    ours = json.loads((saved / CONFIG).read_text())["robust_hub"]
    assert ours.pop("fingerprint").keys() == {"features", "logits"}
    assert ours == {"norm": "ln", "stem": "cifar_s2", "sha256": digest, "recipe": {"epochs": 3}}
    assert sorted(path.name for path in saved.iterdir()) == [CONFIG, WEIGHTS]


def test_half_precision_file_is_read_as_float32(model: nn.Module, tmp_path: Path) -> None:
    folder = save_checkpoint(model, tmp_path, dtype=torch.float16)
    assert {v.dtype for v in load_file(folder / WEIGHTS).values()} == {torch.float16}
    state = read_weights(folder)
    assert {v.dtype for v in state.values()} == {torch.float32}
    assert torch.equal(state["fc.weight"], model.fc.weight.half().float())


def test_batch_norm_counter_stays_an_integer(tmp_path: Path) -> None:
    folder = save_checkpoint(timm.create_model("resnet18s_bn", **TINY), tmp_path, dtype=torch.float16)
    assert read_weights(folder)["bn1.num_batches_tracked"].dtype == torch.int64


def test_saving_again_replaces_both_files(model: nn.Module, folder: Path) -> None:
    before = sha256(folder / WEIGHTS)
    save_checkpoint(timm.create_model(NAME, num_classes=3), folder)
    assert sha256(folder / WEIGHTS) == read_config(folder).sha256[WEIGHTS] != before
    assert load_model(folder).num_classes == 3


def test_model_arguments_survive(tmp_path: Path) -> None:
    model = timm.create_model("resnet18s_gn", num_classes=4, in_chans=1, stem="cifar", drop_rate=0.2, **TINY).eval()
    back = load_model(save_checkpoint(model, tmp_path)).eval()
    assert (back.stem, back.norm_kind, back.drop_rate) == ("cifar", "gn", 0.2)
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(back(x), model(x))
    assert read_config(tmp_path).input_size == (1, 32, 32)


def test_a_reset_head_is_what_is_saved(tmp_path: Path) -> None:
    model = timm.create_model(NAME, num_classes=4, **TINY)
    model.reset_classifier(9)
    back = load_model(save_checkpoint(model, tmp_path))
    assert (back.num_classes, tuple(back.fc.weight.shape)) == (9, (9, 32))


def test_timms_own_model_without_norm_or_stem_of_ours(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=5).eval()
    back = load_model(save_checkpoint(model, tmp_path)).eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(back(x), model(x))


def test_a_plain_torch_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a model of timm.create_model, got Linear"):
        save_checkpoint(nn.Linear(2, 2), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a checkpoint folder with config.json.*found no "):
        read_config(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe\x00"])
def test_config_is_no_json(folder: Path, text: bytes) -> None:
    (folder / CONFIG).write_bytes(text)
    with pytest.raises(CheckpointError, match=r"config.json is damaged .*fetch or train"):
        load_model(folder)


@pytest.mark.parametrize("key", ["architecture", "num_classes", "pretrained_cfg"])
def test_config_lacks_a_key(folder: Path, key: str) -> None:
    edit(folder, lambda c: c.pop(key))
    with pytest.raises(CheckpointError, match=rf"names no {key}: fetch or train"):
        load_model(folder)


def test_config_is_a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[1]")
    with pytest.raises(
        CheckpointError,
        match=r"config.json is damaged .expected a readable config.json, got no object of names and values",
    ):
        read_config(folder)


def test_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"expected weights in .*model.safetensors, found none"):
        read_weights(folder)


def test_one_flipped_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1000] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"has sha256 .* promises .*damaged or another one"):
        read_weights(folder)


@pytest.mark.parametrize("rehash", [False, True])
def test_truncated(folder: Path, rehash: bool) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    if rehash:
        edit(folder, lambda c: c["robust_hub"].update(sha256=sha256(folder / WEIGHTS)))
    with pytest.raises(CheckpointError, match=r"no safetensors file" if rehash else r"has sha256"):
        read_weights(folder)


def test_config_without_a_hash_is_not_trusted(folder: Path) -> None:
    edit(folder, lambda c: c["robust_hub"].pop("sha256"))
    with pytest.raises(CheckpointError, match=r"names the sha256 None, expected 64 hexadecimal digits"):
        read_weights(folder)


@pytest.mark.parametrize(("what", "said"), [("norm", "gn"), ("stem", "cifar")])
def test_another_kind_than_the_models(folder: Path, what: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=rf"holds weights of {what} '.*', the model has {what} '{said}'"):
        read_weights(folder, **{what: said})


@pytest.mark.parametrize("what", ["norm", "stem"])
def test_file_and_config_disagree(folder: Path, what: str) -> None:
    rewrite(folder, load_file(folder / WEIGHTS), **{what: "other"})
    with pytest.raises(CheckpointError, match=rf"was made with {what} 'other', config.json says"):
        read_weights(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), r"missing layer2\.0\.conv1\.weight$"),
        (lambda s: s.update(extra=torch.zeros(1)), r"left over extra$"),
        (lambda s: s.update({"fc.bias": torch.zeros(8)}), r"of another shape fc\.bias$"),
        (lambda s: [s.pop(k) for k in list(s) if "layer2" in k], r"missing (layer2\.\S+, ){3}layer2\S+, \.\.\.$"),
    ],
)
def test_other_layers_with_an_honest_hash(folder: Path, change: Callable[[Any], Any], said: str) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    rewrite(folder, state)
    with pytest.raises(CheckpointError, match=said):
        load_model(folder)


def test_check_keys_takes_the_models_own(model: nn.Module) -> None:
    check_keys(model.state_dict(), model)


def test_silent_mix_up_of_norms_is_what_this_prevents(folder: Path, model: nn.Module) -> None:
    """Without the check, weights of LN load into GN without a word, and mean something else."""
    other = timm.create_model("resnet18s_gn", num_classes=7).eval()
    other.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(other(x), model(x), atol=1e-3)
    edit(folder, lambda c: c.update(architecture="resnet18s_gn"))
    with pytest.raises(CheckpointError, match=r"holds weights of norm 'ln', the model has norm 'gn'"):
        load_model(folder)


@pytest.fixture
def shards(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoint, "SHARD", 4_000_000)
    return save_checkpoint(model, tmp_path / "shards")


def test_large_weights_are_split_as_the_hub_splits_them(model: nn.Module, shards: Path) -> None:
    names = sorted(path.name for path in shards.glob("*.safetensors"))
    assert names == [f"model-0000{k}-of-0000{len(names)}.safetensors" for k in range(1, len(names) + 1)]
    assert len(names) > 2 and all((shards / name).stat().st_size < 4_200_000 for name in names)
    index = json.loads((shards / INDEX).read_text())
    assert set(index["weight_map"]) == set(model.state_dict()) and set(index["weight_map"].values()) == set(names)
    assert read_config(shards).sha256 == {name: sha256(shards / name) for name in names}
    assert not list(shards.glob("*.partial"))
    for key, value in load_model(shards).state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_the_hubs_own_reader_takes_the_split_weights(model: nn.Module, shards: Path) -> None:
    fresh = timm.create_model(NAME, num_classes=7)
    load_torch_model(fresh, shards, strict=True)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in fresh.state_dict().items())


@pytest.mark.parametrize("how", ["missing", "swapped", "flipped"])
def test_a_wrong_part_is_named(shards: Path, how: str) -> None:
    first, second = sorted(shards.glob("*.safetensors"))[:2]
    if how == "missing":
        second.unlink()
    elif how == "swapped":
        second.write_bytes(first.read_bytes())
    else:
        second.write_bytes(bytes([*second.read_bytes()[:-1], 7]))
    with pytest.raises(CheckpointError, match=f"{second.name}.*(found none|sha256)"):
        load_model(shards)


def test_parts_that_are_not_named_are_not_read(shards: Path) -> None:
    edit(shards, lambda config: config["robust_hub"]["sha256"].popitem())
    with pytest.raises(
        CheckpointError, match=r"index.json has \S+ in 'model-\d+-of-\d+.safetensors', which config.json"
    ):
        load_model(shards)
    (shards / INDEX).unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_model(shards)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "names no files of weights"),
        ({"../model.safetensors": "0" * 64}, r"names the file \.\./model.safetensors, expected a name"),
        ({"a/b.safetensors": "0" * 64}, r"names the file a/b.safetensors, expected a name"),
    ],
)
def test_names_of_parts_stay_in_the_folder(shards: Path, told: dict[str, str], said: str) -> None:
    edit(shards, lambda config: config["robust_hub"].update(sha256=told))
    with pytest.raises(CheckpointError, match=said):
        load_model(shards)


def test_one_file_replaces_parts_and_parts_one_file(
    model: nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD", 4_000_000)
    save_checkpoint(model, folder)
    assert not (folder / WEIGHTS).exists() and (folder / INDEX).exists()
    load_model(folder)
    monkeypatch.undo()
    save_checkpoint(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    load_model(folder)


def test_the_probe_is_of_the_stored_weights(model: nn.Module, saved: Path, tmp_path: Path) -> None:
    told = read_config(saved).probe
    assert {name: (len(rows), len(rows[0])) for name, rows in told.items()} == {"features": (2, 16), "logits": (2, 7)}
    assert told == identity.probe(model, (3, 32, 32))
    half = save_checkpoint(model, tmp_path, dtype=torch.bfloat16)
    rounded = read_config(half).probe
    assert rounded != told and rounded == identity.probe(load_model(half), (3, 32, 32))


@pytest.mark.parametrize(("norm", "said"), [("gn", "features"), ("in", "features")])
def test_a_consistent_lie_about_the_norm_is_found_out(folder: Path, norm: str, said: str) -> None:
    # Everything but the probe says that these weights are of another norm.
    state = load_file(str(folder / WEIGHTS))
    save_file(
        state,
        str(folder / WEIGHTS),
        {"format": "pt", "architecture": NAME[:-2] + norm, "norm": norm, "stem": "cifar_s2"},
    )

    def lie(config: dict[str, Any]) -> None:
        config["architecture"] = NAME[:-2] + norm
        config["robust_hub"] |= {"norm": norm, "sha256": sha256(folder / WEIGHTS)}

    edit(folder, lie)
    with pytest.raises(CheckpointError, match=f"give other {said} here"):
        load_model(folder)
    with pytest.raises(CheckpointError, match=f"give other {said} here"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


def test_another_head_leaves_the_features_to_compare(folder: Path) -> None:
    edit(folder, lambda config: config["robust_hub"]["fingerprint"]["logits"][0].__setitem__(0, 1e3))
    load_model(folder, num_classes=3)
    with pytest.raises(CheckpointError, match="give other logits here"):
        load_model(folder)


@pytest.mark.parametrize(
    "asked", [{"output_stride": 8}, {"global_pool": "max"}, {"in_chans": 1}, {"dtype": torch.bfloat16}]
)
def test_a_network_that_is_asked_to_compute_something_else_is_not_compared(folder: Path, asked: dict[str, Any]) -> None:
    assert load_model(folder, **asked) is not None


def test_networks_that_cannot_be_run_are_saved_without_a_probe(tmp_path: Path) -> None:
    # Instance norm after the ImageNet stem ends at one pixel for these images.
    small = {"input_size": (3, 32, 32)}
    save_checkpoint(timm.create_model("resnet26_in", stem="imagenet", pretrained_cfg_overlay=small), tmp_path)
    assert read_config(tmp_path).probe is None
    load_model(tmp_path)


PLAIN = [
    ("resnet18s_ln_mixednoise", "resnet18", {"channels": [32, 64, 128, 256], "norm_layer": "groupnorm1"}),
    ("resnet26_gn", "resnet26", {"norm_layer": "groupnorm"}),
    ("resnet26_bn", "resnet26", {}),
    ("resnet50_gn", "resnet50", {"norm_layer": "groupnorm"}),
]


@pytest.mark.parametrize(("name", "timms", "args"), PLAIN)
def test_with_timms_own_stem_config_speaks_timms_words(
    name: str, timms: str, args: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, stem="imagenet", num_classes=7).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # scales and shifts that tell one norm from another
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    folder = save_checkpoint(model, tmp_path)
    told = json.loads((folder / CONFIG).read_text())
    assert (told["architecture"], told["model_args"]) == (timms, args)
    assert (read_config(folder).architecture, read_config(folder).plain_timm) == (name, (timms, args))
    x = torch.randn(2, 3, 64, 64)
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert type(plain) is timm.models.resnet.ResNet and not hasattr(plain, "norm_kind")
    assert torch.equal(plain(x), model(x))
    ours = load_model(folder).eval()
    assert ours.norm_kind == name.removesuffix("_mixednoise").split("_")[1] and torch.equal(ours(x), model(x))
    check_plain_timm(read_config(folder), ours, folder)


@pytest.mark.parametrize("name", ["resnet18s_ln", "resnet26_in"])
def test_what_timm_cannot_make_keeps_our_name(name: str, tmp_path: Path) -> None:
    stem = {"stem": "imagenet"} if name.endswith("in") else {}
    folder = save_checkpoint(timm.create_model(name, **stem), tmp_path)
    assert json.loads((folder / CONFIG).read_text())["architecture"] == name and read_config(folder).plain_timm is None
    check_plain_timm(read_config(folder), load_model(folder), folder)


@pytest.mark.parametrize(
    "lie", [lambda c: c["model_args"].update(norm_layer="groupnorm"), lambda c: c.update(architecture="resnet50")]
)
def test_another_network_for_plain_timm_than_for_us_is_found_out(lie: Callable[..., None], tmp_path: Path) -> None:
    folder = save_checkpoint(timm.create_model("resnet26_ln", stem="imagenet", num_classes=3), tmp_path)
    edit(folder, lie)
    with pytest.raises(CheckpointError, match="has plain timm make resnet"):
        check_plain_timm(read_config(folder), load_model(folder), folder)
    with pytest.raises(CheckpointError, match="has plain timm make resnet"):
        verify(folder)
