"""The cache: what is whole in it loads offline under every name of its revision, and only damaged files leave it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from loopback_hub import Hub, Repo, wsgi
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.layout import CONFIG, INDEX, WEIGHTS
from robust_hub.models import checkpoint, remote, stored
from robust_hub.models.checkpoint import read_weights, save_checkpoint
from robust_hub.models.remote import fetch
from robust_hub.models.resnets import load_model
from robust_hub.provenance import provenance_of

REPO = "me/resnet18s_ln"
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub for the client of this process, and a cache of its own."""
    found = Hub()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hook = huggingface_hub.utils._http.hf_request_event_hook

    def client() -> httpx2.Client:
        transport = httpx2.WSGITransport(app=wsgi(found))
        return httpx2.Client(transport=transport, event_hooks={"request": [hook]}, follow_redirects=True, timeout=None)

    huggingface_hub.set_client_factory(client)
    yield found
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def put(hub: Hub, folder: Path, seed: int = 0, **kwargs: Any) -> tuple[str, nn.Module]:
    """Commit a small checkpoint to the Hub's main branch; gives the commit and the network."""
    torch.manual_seed(seed)
    model = timm.create_model("resnet18s_ln", num_classes=5, **kwargs).eval()
    save_checkpoint(model, folder)
    repo = hub.repos.setdefault(REPO, Repo(REPO, private=False))
    return repo.commit({path.name: path.read_bytes() for path in folder.iterdir()}), model


def blobs() -> dict[str, str]:
    """The cache's files by the name that says their hash, with the sha256 that they have."""
    found = Path(constants.HF_HUB_CACHE).glob("*/blobs/*")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("names", [("", "@main"), ("@v1", "@branch"), ("@sha",)])
def test_what_is_whole_in_the_cache_loads_offline_as_it_did_online(
    names: tuple[str, ...], hub: Hub, tmp_path: Path, offline: Callable[[], None]
) -> None:
    sha, model = put(hub, tmp_path / "made")
    hub.repos[REPO].refs |= {"v1": sha, "branch": sha}
    names = tuple(name.replace("sha", sha) for name in names)
    for name in names:
        load_model(f"hf-hub:{REPO}{name}")
    offline()
    hub.log.clear()
    for name in names:
        assert torch.equal(load_model(f"hf-hub:{REPO}{name}")(X), model(X))
        assert torch.equal(timm.create_model(f"hf-hub:{REPO}{name}", pretrained=True)(X), model(X))
        overlay = {"hf_hub_id": REPO + name}
        by_overlay = timm.create_model("resnet18s_ln", pretrained=True, pretrained_cfg_overlay=overlay)
        assert torch.equal(by_overlay(X), model(X))
    assert hub.log == []


def test_without_a_network_the_cache_is_asked_as_well(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = put(hub, tmp_path / "made")
    fetch(REPO, "main", check=read_weights)

    def unreachable(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route", request=request)

    monkeypatch.setattr(remote, "get_session", lambda: httpx2.Client(transport=httpx2.MockTransport(unreachable)))
    assert torch.equal(load_model(fetch(REPO, "main", check=read_weights))(X), model(X))
    with pytest.raises(CheckpointError, match=r"is not here and the Hub cannot be reached \(no route\)"):
        fetch(REPO, "v2", check=read_weights)


def test_a_network_that_answers_nothing_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the look-up of a name hangs, which no limit of the client ends; timm's names and ours alike."""
    asked = Event()

    class Silent:
        def head(self, *_: object, **__: object) -> None:
            asked.wait(30)

    monkeypatch.setattr(remote, "get_session", Silent)
    monkeypatch.setattr(remote.unreachable, "__defaults__", (0.05,))
    for name in (f"hf-hub:{REPO}", "resnet18.a1_in1k"):
        with pytest.raises(
            CheckpointError, match=rf"^{name} comes from the Hub: .*no answer within 0.05 s.*: check the"
        ):
            load_model(name)
    asked.set()


def test_what_ends_the_question_ends_the_load(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def head(self, *_: object, **__: object) -> None:
            raise AssertionError("not the world's fault")

    monkeypatch.setattr(remote, "get_session", Broken)
    with pytest.raises(AssertionError, match="not the world's fault"):
        remote.unreachable(constants.ENDPOINT)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_an_address_is_checked_whoever_makes_the_network(
    stem: str, hub: Hub, tmp_path: Path, offline: Callable[[], None]
) -> None:
    """With its own stem timm alone would make the network, and compares nothing."""
    _, model = put(hub, tmp_path / "made", stem=stem)
    put(hub, tmp_path / "other", seed=2, stem=stem)
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    hub.repos[REPO].commit(files)
    for address in (f"hf-hub:{REPO}", f"local-dir:{tmp_path / 'made'}"):
        loaded: Any = load_model(address)
        assert type(loaded) is type(model) and provenance_of(loaded) is not None
        assert torch.equal(loaded(X), model(X)) and load_model(address, num_classes=3).num_classes == 3
    others = (tmp_path / "other" / WEIGHTS).read_bytes()
    (tmp_path / "made" / WEIGHTS).write_bytes(others)
    sha = hub.repos[REPO].commit({**files, WEIGHTS: others})
    for address in (f"hf-hub:{REPO}@{sha}", f"local-dir:{tmp_path / 'made'}"):
        with pytest.raises(CheckpointError, match="the file is damaged or another one"):
            load_model(address)


def test_a_branch_is_followed_online_and_stays_where_it_was_offline(
    hub: Hub, tmp_path: Path, offline: Callable[[], None]
) -> None:
    put(hub, tmp_path / "one")
    load_model(f"hf-hub:{REPO}")
    _, second = put(hub, tmp_path / "two", seed=2)
    assert torch.equal(load_model(f"hf-hub:{REPO}")(X), second(X))
    offline()
    assert torch.equal(load_model(f"hf-hub:{REPO}")(X), second(X))


@pytest.mark.parametrize("revision", ["", "@v9", "@" + "a" * 40])
def test_another_revision_than_the_cached_one_is_refused_at_once(
    revision: str, hub: Hub, tmp_path: Path, offline: Callable[[], None]
) -> None:
    sha, _ = put(hub, tmp_path / "made")
    load_model(f"hf-hub:{REPO}@{sha}")
    offline()
    with pytest.raises(CheckpointError, match=rf"{REPO} is not here and the Hub cannot be reached \(HF_HUB_OFFLINE"):
        load_model(f"hf-hub:{REPO}{revision}")


def test_a_revision_that_is_not_whole_is_no_revision(
    hub: Hub, tmp_path: Path, offline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD", 4_000_000)
    sha, model = put(hub, tmp_path / "made")
    huggingface_hub.hf_hub_download(REPO, CONFIG, revision=sha)
    huggingface_hub.hf_hub_download(REPO, INDEX, revision=sha)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="is not here and the Hub cannot be reached"):
        fetch(REPO, sha, check=read_weights)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert torch.equal(load_model(fetch(REPO, sha, check=read_weights))(X), model(X))


MISTAKES: dict[str, Callable[[str], object]] = {
    "stem": lambda name: timm.create_model(name, pretrained=True, stem="cifar"),
    "layers": lambda name: timm.create_model(name, pretrained=True, layers=(2, 2, 2, 3), num_classes=3),
    "norm": lambda name: timm.create_model("resnet18s_gn", pretrained=True, pretrained_cfg_overlay=of(name)),
    "depth": lambda name: timm.create_model("resnet26_ln", pretrained=True, pretrained_cfg_overlay=of(name)),
    "file": lambda name: timm.create_model(
        "resnet18s_ln", pretrained=True, pretrained_cfg_overlay={**of(name), "hf_hub_filename": "ema.safetensors"}
    ),
    "classes": lambda name: timm.create_model(
        "resnet18s_ln", pretrained=True, pretrained_cfg_overlay={**of(name), "num_classes": 3}
    ),
}


def of(name: str) -> dict[str, Any]:
    return {"hf_hub_id": name.removeprefix("hf-hub:")}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_callers_mistake_leaves_the_cache_as_it_is(
    mistake: str, hub: Hub, tmp_path: Path, offline: Callable[[], None]
) -> None:
    sha, model = put(hub, tmp_path / "made")
    name = f"hf-hub:{REPO}@{sha}"
    load_model(name)
    before = blobs()
    for _ in range(2):
        with pytest.raises((CheckpointError, ValueError)):
            MISTAKES[mistake](name)
        assert blobs() == before
        offline()
    assert torch.equal(load_model(name)(X), model(X))


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), RuntimeError("can't allocate memory: 9 bytes")])
def test_what_ends_a_load_leaves_the_cache_as_it_is(
    error: BaseException, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha, model = put(hub, tmp_path / "made")
    name, before = f"hf-hub:{REPO}@{sha}", None

    def fail(_: bytes) -> None:
        raise error

    for works in (True, False, True):
        monkeypatch.setattr(stored, "unpack", checkpoint_unpack if works else fail)
        if works:
            assert torch.equal(load_model(name)(X), model(X))
        else:
            with pytest.raises(type(error)):
                load_model(name)
        assert before in (None, blobs())
        before = blobs()


checkpoint_unpack = stored.unpack


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_damaged_file_leaves_the_cache_alone_and_comes_anew(
    name: str, linked: bool, hub: Hub, tmp_path: Path
) -> None:
    sha, model = put(hub, tmp_path / "made")
    folder = fetch(REPO, sha, check=read_weights)
    if not linked:  # as on a disk without links
        for path in folder.iterdir():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    other = {path.name for path in folder.iterdir()} - {name}
    path = (folder / name).resolve()
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    with pytest.raises(CheckpointError, match="damaged"):
        fetch(REPO, sha, check=read_weights)
    assert {path.name for path in folder.iterdir()} == other and not path.exists()
    hub.log.clear()
    assert torch.equal(load_model(fetch(REPO, sha, check=read_weights))(X), model(X))
    came = {line.split("/")[-1] for line in hub.log if line.startswith("GET") and "/resolve/" in line}
    assert came == {name} or not linked


def test_a_lie_of_one_revision_does_not_cost_another_its_file(hub: Hub, tmp_path: Path) -> None:
    sha, model = put(hub, tmp_path / "made")
    fetch(REPO, sha, check=read_weights)
    files = dict(hub.repos[REPO].commits[-1][1])
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest().encode()
    lie = hub.repos[REPO].commit({**files, CONFIG: files[CONFIG].replace(digest, b"0" * 64)})
    for _ in range(2):
        with pytest.raises(CheckpointError, match="promises 000000000000"):
            fetch(REPO, lie, check=read_weights)
    hub.log.clear()
    assert torch.equal(load_model(fetch(REPO, sha, check=read_weights))(X), model(X)) and hub.log == []


def test_the_cache_that_is_named_is_the_one_that_is_used(hub: Hub, tmp_path: Path) -> None:
    _, model = put(hub, tmp_path / "made")
    other = tmp_path / "other"
    for name, overlay in ((f"hf-hub:{REPO}", {}), ("resnet18s_ln", {"hf_hub_id": REPO})):
        made = timm.create_model(name, pretrained=True, cache_dir=other, pretrained_cfg_overlay=overlay)
        assert torch.equal(made(X), model(X))
    assert list(other.glob(f"*/snapshots/*/{WEIGHTS}")) and not Path(constants.HF_HUB_CACHE).exists()
