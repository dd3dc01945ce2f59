"""What strangers may have written: a checkpoint's folder ends in a network or in one sentence, and leads nowhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.cli.main import main
from robust_hub.errors import CheckpointError
from robust_hub.files import inside
from robust_hub.images.data import load_data
from robust_hub.layout import CONFIG, DIFFERENCE, INDEX, WEIGHTS
from robust_hub.models import checkpoint
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.pins import write_pin
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder, list_checkpoints
from robust_hub.models.stored import copy_whole, sha256
from robust_hub.provenance import Provenance
from robust_hub.publishing.cards import write_card
from robust_hub.publishing.hub import publish, verify
from robust_hub.publishing.shelf import shelve

TINY: dict[str, Any] = {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)}
NAME = "resnet18s_ln"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=5, **TINY)
    start = Provenance(job="pretrain", data="digits", epochs=3, sigmas=(0.0, 0.5), history=({"epoch": 1, "loss": 2.0},))
    return save_checkpoint(model, tmp_path_factory.mktemp("hostile") / NAME, provenance=start)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / NAME))


@pytest.fixture(autouse=True)
def offline_and_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that opens a socket or hangs."""

    def refuse(*args: object, **_: object) -> None:
        raise AssertionError(f"a socket was opened: {args}")

    def late(*_: object) -> None:
        raise AssertionError("it took a minute")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def refused(folder: Path, said: str) -> None:
    """Load and verify end in one sentence, in Python and on the command line."""
    for ask in (load_model, verify):
        with pytest.raises(CheckpointError, match=said) as caught:
            ask(folder)
        assert len(str(caught.value).splitlines()) == 1 and str(caught.value).isprintable()
        assert len(str(caught.value)) < 2000
    result = CliRunner().invoke(main, ["verify", str(folder)])
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    assert result.output.startswith("robust-hub: ")


def network_or_sentence(folder: Path) -> None:
    """Fail on any other end of loading a folder."""
    said = ""
    try:
        assert isinstance(load_model(folder), nn.Module)
    except CheckpointError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1 and said.isprintable()


def test_the_socket_guard_can_fail() -> None:
    with pytest.raises(AssertionError, match="a socket was opened"):
        socket.socket()


def top(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config.update(values)


def ours(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["robust_hub"].update(values)


def args(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["model_args"].update(values)


def cfg(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda config: config["pretrained_cfg"].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (top(architecture="hf-hub:evil/model"), "names the architecture 'hf-hub:evil/model', expected one of timm's"),
        (top(architecture="hf_hub:evil/model"), "names the architecture 'hf_hub:evil/model'"),
        (top(architecture="local-dir:/etc"), "names the architecture 'local-dir:/etc'"),
        (ours(architecture="hf-hub:evil/model"), "names the architecture 'hf-hub:evil/model'"),
        (top(architecture="resnet18.a1_in1k"), "names the architecture 'resnet18.a1_in1k'"),
        (top(architecture="resnet18s_l"), "resnet18s_l, which timm does not know: did you mean resnet18s_ln"),
        (top(architecture="x\x1b[2J\nmodel"), r"names the architecture 'x\\x1b\[2J\\nmodel'"),
        (cfg(hf_hub_id="evil/model"), "names hf_hub_id in pretrained_cfg, expected weights in the folder alone"),
        (cfg(url="https://evil.example/model.pth"), "names url in pretrained_cfg"),
        (cfg(file="/etc/passwd"), "names file in pretrained_cfg"),
        (cfg(source="hf-hub"), "names source in pretrained_cfg"),
        (cfg(custom_load=True), "names custom_load in pretrained_cfg"),
        (args(checkpoint_path="/tmp/evil.pth"), "names the model argument checkpoint_path, which makes no layers"),
        (args(pretrained=True), "names the model argument pretrained"),
        (args(pretrained_cfg={"url": "https://evil.example"}), "names the model argument pretrained_cfg"),
        (args(pretrained_cfg_overlay={"hf_hub_id": "evil/model"}), "names the model argument pretrained_cfg_overlay"),
        (args(cache_dir="/"), "names the model argument cache_dir"),
        (args(device="cuda"), "names the model argument device"),
    ],
)
def test_a_config_leads_nowhere(folder: Path, change: Callable[..., Any], said: str) -> None:
    edit(folder, change)
    refused(folder, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (args(layers=[10**9] * 4), r"model argument layers = 1000000000, expected plain names and numbers of at most"),
        (args(layers=[10**5] * 4), "describes a network of more tensors than the"),
        (args(layers=[1] * 2000), "names the model argument layers"),
        (args(channels=[10**5] * 4), "of another shape"),
        (args(layers=3), "describes a resnet18s_ln that timm cannot make"),
        (args(layers=[]), "left over layer1"),
        (args(block="bottleneck"), "describes a resnet18s_ln that timm cannot make"),
        (args(block={"a": {"b": {"c": {"d": 1}}}}), "names the model argument block"),
        (args(global_pool="x; import os"), "names the model argument global_pool"),
        (args(global_pool="nosuch"), "describes a resnet18s_ln that timm cannot make"),
        (args(nosuch=1), "describes a resnet18s_ln that timm cannot make"),
        (args(norm="gn"), "timm cannot make .resnet18s_ln has norm 'ln' in its name, got norm='gn'"),
        (args(stem="cifra"), "timm cannot make .unknown stem 'cifra'"),
        (args(**{"__class__": 1}), "names the model argument __class__"),
        (top(model_args=[1]), r"names model_args \[1\], expected names and values"),
        (top(num_classes=10**12), "names num_classes 1000000000000, expected a whole number from 0 to"),
        (top(num_classes=10**9), "of another shape fc.bias, fc.weight"),
        (top(num_classes=-1), "names num_classes -1"),
        (top(num_classes=True), "names num_classes True"),
        (top(num_classes=5.0), "names no num_classes"),
        (top(num_features="many"), "names num_features 'many'"),
        (cfg(input_size=[3, 10**6, 10**6]), "names input_size .* expected channels, height and width of at most 1024"),
        (cfg(input_size=[3, 32]), r"names input_size \[3, 32\] in pretrained_cfg"),
        (cfg(input_size=[1024, 32, 32]), "config.json describes images or layers unlike its weights .*1024"),
        (cfg(input_size=[3, 1, 1]), "give other features here"),
        (cfg(input_size=["3", "32", "32"]), "names input_size .* in pretrained_cfg"),
        (cfg(input_size="3x32x32"), "names input_size '3x32x32' in pretrained_cfg"),
        (cfg(input_size=[3, 0, 32]), r"names input_size \[3, 0, 32\]"),
        (cfg(num_classes="many"), "names num_classes 'many' in pretrained_cfg"),
        (cfg(crop_pct="all"), "names crop_pct 'all' in pretrained_cfg, expected a part above 0"),
        (cfg(first_conv=[[["conv1"]]]), "names first_conv .* expected names of layers"),
        (ours(recipe="hello"), "names the recipe 'hello', expected names and values"),
        (ours(recipe={"epochs": "3"}), "names epochs '3' in its recipe, expected another type"),
        (ours(recipe={"base": {"epochs": [3]}}), r"names epochs \[3\] in its recipe"),
        (ours(recipe={"sigmas": ["a"]}), r"names sigmas \['a'\] in its recipe, expected numbers"),
        (ours(recipe={"history": [1]}), "names a history in its recipe"),
        (ours(recipe={"data": "a\x1b[2Jb"}), r"in its recipe, expected a line of text"),
        (ours(fingerprint="hello"), "names the fingerprint 'hello', expected features and logits"),
        (ours(fingerprint={"features": 5}), "names the fingerprint"),
        (ours(fingerprint={"features": [[None]]}), "names the fingerprint"),
        (ours(fingerprint={"features": [[1.0]], "logits": [[1.0]]}), "give other features here"),
        (ours(license="a\x1b[2J"), r"names the licence 'a\\x1b\[2J', expected the Hub's id"),
        (ours(license="x" * 100), "names the licence 'xxx"),
        (ours(license=["mit"]), r"names the licence \['mit'\]"),
        (args(layers=[-1, 1, 1, 1]), "left over layer1"),
        (args(layers=[[1]] * 4), "describes a resnet18s_ln that timm cannot make"),
        (args(layers=[1e308] * 4), "names the model argument layers"),
        (args(block=5), "describes a resnet18s_ln that timm cannot make"),
        (args(block="timm.models.resnet.Bottleneck"), "describes a resnet18s_ln that timm cannot make"),
        (args(global_pool=["avg"]), "describes a resnet18s_ln that timm cannot make"),
        (args(global_pool=7), "describes a resnet18s_ln that timm cannot make"),
        (args(act_layer="os.system"), "describes a resnet18s_ln that timm cannot make"),
        (top(num_classes="5"), "names no num_classes"),
        (top(num_classes=0), "left over fc.bias"),
        (top(architecture="eva_giant_patch14_560"), "describes a eva_giant_patch14_560 that timm cannot make"),
        (ours(norm="l\nn"), r"names the norm 'l\\nn', expected its name"),
        (ours(stem=["cifar"]), r"names the stem \['cifar'\]"),
        (ours(sha256="00"), "names the sha256 '00', expected 64 hexadecimal digits"),
        (ours(sha256={"../../x.safetensors": "0" * 64}), "names the file ../../x.safetensors, expected a name"),
        (ours(sha256={"/etc/passwd": "0" * 64}), "names the file /etc/passwd, expected a name"),
        (ours(difference={"base": "../../other", "base_sha256": {}, "sha256": ""}), "names the base '../../other' of"),
    ],
)
def test_a_config_is_bounded_before_a_network_is_built(folder: Path, change: Callable[..., Any], said: str) -> None:
    edit(folder, change)
    refused(folder, said)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
        '{"recipe": ' + "[" * 80 + "]" * 80 + "}",
        '{"num_classes": ' + "9" * 5000 + "}",
        '{"num_classes": NaN}',
        '{"num_classes": 1, "num_classes": 2}',
        "[" * 100_000,
        '{"x": 1e999}',
        " " * 5_000_000,
        "null",
        "",
    ],
)
def test_json_that_python_would_choke_on_is_one_sentence(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    refused(folder, "config.json is damaged")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["hf-hub:a/b", "resnet18s_gn", "gn", "cifar", "max", "../x", "resnet50", "vit_tiny_patch16_224"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value, the value itself aside."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_config_gives_a_network_or_one_sentence(folder: Path, saved: Path, data: st.DataObject) -> None:
    config = json.loads((saved / CONFIG).read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(sorted(places(config), key=str)))
        inner = config
        for key in path:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = data.draw(VALUES)
        elif isinstance(inner, dict):
            inner[data.draw(st.sampled_from([*NAMES_OF_ARGUMENTS, str(last)]))] = data.draw(VALUES)
    (folder / CONFIG).write_text(json.dumps(config))
    network_or_sentence(folder)


NAMES_OF_ARGUMENTS = [
    "in_chans",
    "output_stride",
    "global_pool",
    "act_layer",
    "drop_path_rate",
    "stem_width",
    "pretrained",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_header_of_weights_gives_a_network_or_one_sentence(folder: Path, saved: Path, data: st.DataObject) -> None:
    content = bytearray((saved / WEIGHTS).read_bytes())
    length = int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, 8 + length - 1))] = data.draw(st.integers(0, 255))
    else:
        header = json.loads(content[8 : 8 + length])
        entry = header[data.draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))]
        entry[data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))] = data.draw(
            VALUES | st.sampled_from(["F16", "BOOL", "F8_E4M3"]) | st.lists(st.integers(0, 2**63), max_size=3)
        )
        text = json.dumps(header).encode()
        content = bytearray(len(text).to_bytes(8, "little") + text + content[8 + length :])
    (folder / WEIGHTS).write_bytes(content)
    config = json.loads((saved / CONFIG).read_text())
    config["robust_hub"]["sha256"] = sha256(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    network_or_sentence(folder)


def test_a_header_that_promises_more_than_there_is(folder: Path) -> None:
    for length in (2**62, 2**40, 10**8 + 1):
        (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + b"{}")
        edit(folder, ours(sha256=sha256(folder / WEIGHTS)))
        refused(folder, "model.safetensors is no safetensors file")


def test_names_of_tensors_are_shown_on_one_line(folder: Path) -> None:
    state = load_file(folder / WEIGHTS) | {"x\x1b[2J\ny": torch.zeros(1)}
    save_file(state, folder / WEIGHTS, {"norm": "ln", "stem": "cifar_s2"})
    edit(folder, ours(sha256=sha256(folder / WEIGHTS)))
    refused(folder, r"left over x\\x1b\[2J\\ny")


# --- What certify would refuse


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cfg(mean="abc"), "names mean 'abc' in pretrained_cfg, expected finite numbers"),
        (cfg(mean=[0.5, "x", 0.5]), "names mean .* expected finite numbers"),
        (cfg(std=[0.5, 0.0, 0.5]), "names std .* expected positive numbers, one a channel"),
        (cfg(std=[0.5, -0.5, 0.5]), "names std .* expected positive numbers"),
        (cfg(std=[1e-300] * 3), "names std .* expected positive numbers"),
        (cfg(mean=[True] * 3), "names mean .* expected finite numbers"),
        (cfg(mean=[[0.5]] * 3), "names mean .* expected finite numbers"),
        (cfg(std=[0.5, 0.5]), "names mean and std of 3 and 2 channels, expected as many"),
        (cfg(mean=[]), r"names mean \[\] in pretrained_cfg"),
    ],
)
def test_pixels_that_nobody_can_certify_are_refused(folder: Path, change: Callable[..., Any], said: str) -> None:
    edit(folder, change)
    refused(folder, said)
    with pytest.raises(CheckpointError, match=said):
        certify(load_model(folder), load_data("digits", "test"), 0.25, out=folder / "run", limit=1, n=20)


def test_a_mean_that_is_no_number_is_damage(folder: Path) -> None:
    (folder / CONFIG).write_text((folder / CONFIG).read_text().replace("0.485", "NaN"))
    refused(folder, "config.json is damaged .*NaN, which is no number")


def test_verify_refuses_channels_that_certify_would(folder: Path) -> None:
    edit(folder, cfg(mean=[0.5, 0.4], std=[0.5, 0.5]))
    with pytest.raises(CheckpointError, match="names images of 3 channels, with mean and std of another number"):
        verify(folder)
    with pytest.raises(ValueError, match="expected mean and std of the 3 channels that this model takes, got a"):
        certify(
            load_model(folder), load_data("digits", "test"), 0.25, out=folder / "run", limit=1, n=20, progress=False
        )


def test_verify_refuses_a_size_that_the_network_does_not_take(tmp_path: Path) -> None:
    small = {"input_size": (3, 32, 32)}
    model = timm.create_model("resnet26_in", stem="imagenet", num_classes=3, pretrained_cfg_overlay=small)
    folder = save_checkpoint(model, tmp_path / "small")
    load_model(folder)
    with pytest.raises(CheckpointError, match="names images of 3x32x32, which its network cannot take"):
        verify(folder)


# --- Paths stay in the folder


def test_a_file_of_the_folder_may_be_a_link_within_it_but_not_out_of_it(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(folder / "real.safetensors")
    (folder / WEIGHTS).symlink_to("real.safetensors")
    load_model(folder)
    (folder / WEIGHTS).unlink()
    (folder / "real.safetensors").rename(tmp_path / "outside.safetensors")
    (folder / WEIGHTS).symlink_to(tmp_path / "outside.safetensors")
    refused(folder, "model.safetensors cannot be read .*which leads to .*outside.safetensors: copy the file there")


def test_what_is_no_file_is_not_read(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    refused(folder, "model.safetensors cannot be read .*which is none")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")
    refused(folder, "model.safetensors cannot be read .*leads to /dev/zero")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(WEIGHTS)
    refused(folder, "whose links lead nowhere|found none|cannot be read")
    (folder / CONFIG).unlink()
    (folder / CONFIG).symlink_to("/dev/zero")
    refused(folder, "holds no config.json|config.json is damaged")


def test_the_hubs_cache_links_to_its_own_files(saved: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b" / "blobs"
    for place in (snapshot, blobs):
        place.mkdir(parents=True)
    for path in saved.iterdir():
        shutil.copy(path, blobs / path.name[::-1])
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name[::-1]))
    assert verify(snapshot) == snapshot
    with pytest.raises(ValueError, match="which leads to"):
        inside(snapshot, "../../../elsewhere")


@pytest.mark.parametrize("place", ["../../x", "/etc/passwd", "other.safetensors", 7, None, "model.safetensors/../../x"])
def test_an_index_names_the_files_of_config_alone(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: object
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD", 100_000)
    folder = save_checkpoint(load_model(saved), tmp_path / NAME)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["fc.weight"] = place
    (folder / INDEX).write_text(json.dumps(index))
    refused(folder, "index.json has fc.weight in .*, which config.json does not name")
    (tmp_path / "copy").mkdir()
    with pytest.raises(CheckpointError):
        copy_whole(folder, tmp_path / "copy")


def test_a_link_out_of_the_folder_is_not_published(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (folder / "training").mkdir()
    (folder / "training" / "speed.json").symlink_to(tmp_path / "secret")
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"speed.json, which leads to .*secret: copy the file there"):
        publish(folder, "me/model", dry_run=True)


BAD_NAMES = [
    "resnet18s_ln_mixednoise.../../../y",
    "../../evil",
    "..",
    ".hidden",
    "",
    "/etc/x",
    "a\x1b[2Jb",
    "a\nb",
    "-rf",
    "x" * 200,
    "a b",
    "ends.",
    "ends ",
    "a\0b",
    "a\\b",
    "C:evil",
    "nul",
    "COM1.cifar10",
    "Aux.",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leads_out_of_a_shelf(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    before = sorted(tmp_path.rglob("*"))
    for use in (
        lambda: shelve(folder, name, shelf=tmp_path / "x" / "shelf"),
        lambda: write_card(name, folder),
        lambda: write_pin(name, "me/model", "1"),
        *([lambda: publish(folder, "me/model", name=name, dry_run=True)] if name else []),
    ):
        with pytest.raises(ValueError, match="expected a checkpoint's name of letters, digits") as caught:
            use()
        assert str(caught.value).isprintable()
    assert checkpoint_folder(name) is None
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_line_refuses_such_names(folder: Path, tmp_path: Path) -> None:
    run = partial(CliRunner().invoke, main)
    words = ["shelve", str(folder), f"{NAME}/../../../y", "--shelf", str(tmp_path / "x" / "shelf")]
    for result in (run(words), run(["card", str(folder), "--name", "../../evil"])):
        assert result.exit_code == 2 and "expected a checkpoint's name" in result.output
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, WEIGHTS] and not (tmp_path / "x").exists()


def test_a_shelf_lists_no_name_that_is_none(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUST_HUB_SHELF", str(tmp_path))
    shutil.copytree(folder, tmp_path / "a\x1b[2Jb")
    assert NAME in list_checkpoints() and not [name for name in list_checkpoints() if "\x1b" in name]


def test_a_training_on_data_of_any_name_can_be_read_again(tmp_path: Path) -> None:
    model = timm.create_model(NAME, num_classes=2, **TINY)
    folder = save_checkpoint(model, tmp_path / NAME, provenance=Provenance(job="pretrain", data="my\x1b[2J\ndata"))
    assert read_config(folder).provenance == Provenance(job="pretrain", data="my\\x1b[2J\\ndata")
    assert verify(folder) == folder


def test_a_difference_reads_no_file_but_its_own(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "base")
    folder = save_checkpoint(load_model(saved), tmp_path / NAME, base="base")
    load_model(folder)
    (folder / DIFFERENCE).rename(tmp_path / "elsewhere")
    (folder / DIFFERENCE).symlink_to(tmp_path / "elsewhere")
    refused(folder, "difference.safetensors.zlib cannot be read .*which leads to")
