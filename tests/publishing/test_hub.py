"""Publish, verify and fetch against a Hub in the same process, with the real client."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from loopback_hub import TOKEN, USER, Hub, serve, wsgi
from safetensors.torch import load, save

import robust_hub
from robust_hub.certification.evaluate import certify
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.errors import CheckpointError
from robust_hub.images.data import load_data
from robust_hub.layout import CONFIG, DIFFERENCE, WEIGHTS
from robust_hub.models import entrypoints, remote
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.config import read_config
from robust_hub.models.pins import read_pins, write_pin
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import PACKAGED, checkpoint_folder, list_checkpoints
from robust_hub.models.stored import sha256
from robust_hub.provenance import Provenance
from robust_hub.publishing.cards import write_card
from robust_hub.publishing.evidence import certification
from robust_hub.publishing.hub import list_published, pin, publish, verify
from robust_hub.publishing.shelf import shelve
from robust_hub.publishing.sound import load_sound
from robust_hub.training.finetune import finetune_clean

PACKAGED_NAME = "resnet18s_ln_mixednoise"
NAME = f"{PACKAGED_NAME}.digits"
REPO = f"{USER}/{NAME}"
X = (torch.arange(2 * 3 * 32 * 32) % 256).view(2, 3, 32, 32) / 255

fetch = partial(remote.fetch, check=load_sound)

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's fine-tuned model with its records, on a shelf."""
    home = tmp_path_factory.mktemp("made")
    digits = load_data("digits", split="train").subset(range(256))
    model = load_model("resnet18s_ln_mixednoise")
    finetune_clean(model, digits, epochs=1, learning_rate=0.03, batch_size=64, out=home / "run", progress=False)
    test = load_data("digits", split="test")
    options: dict[str, Any] = {"every": 90, "n": 200, "seed": 3, "progress": False, "radii": (0.0, 0.1, 0.25)}
    certify(load_model(home / "run"), test, 0.25, out=home / "certified", **options)
    return shelve(home / "run", NAME, certified=[home / "certified"], license="mit", shelf=home / "shelf")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shelf" / NAME))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub for the client of this process, a cache and a login of its own."""
    found = Hub()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hook = huggingface_hub.utils._http.hf_request_event_hook

    def client() -> httpx2.Client:
        transport = httpx2.WSGITransport(app=wsgi(found))
        return httpx2.Client(transport=transport, event_hooks={"request": [hook]}, follow_redirects=True, timeout=None)

    huggingface_hub.set_client_factory(client)
    yield found
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's patience between two tries, without the time that it takes."""
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)


def test_what_timm_pushes_is_loaded_with_a_warning_and_pinned_to_no_name(hub: Hub, tmp_path: Path) -> None:
    model = timm.create_model(PACKAGED_NAME, pretrained=True)
    timm.models.push_to_hf_hub(model, REPO)
    for door in (load_model, partial(timm.create_model, pretrained=True)):
        with pytest.warns(UserWarning, match=f"not checked: no hashes.*`hf download {REPO} --local-dir FOLDER`, then"):
            back = door(f"hf-hub:{REPO}")
        assert torch.equal(back(X), model(X)) and back.pretrained_cfg["label_names"][0] == "n01443537"
    with pytest.raises(CheckpointError, match="names no robust_hub, so no hashes to check"):
        verify(REPO)
    write_pin("resnet18s_ln_mixednoise.pushed", REPO, hub.repos[REPO].refs["main"])
    with pytest.raises(CheckpointError, match="names no robust_hub, so no hashes to check"):
        load_model("resnet18s_ln_mixednoise.pushed")
    timm.models.push_to_hf_hub(model, f"{USER}/pickle", safe_serialization=False)
    with pytest.raises(CheckpointError, match="expected weights in .*model.safetensors, got none"):
        load_model(f"hf-hub:{USER}/pickle")


def test_what_comes_back_is_what_was_sent(hub: Hub, folder: Path) -> None:
    told = publish(folder, REPO, tag="v1")
    assert told.revision == hub.repos[REPO].refs["main"] == hub.repos[REPO].refs["v1"]
    assert len(hub.repos[REPO].commits) == 2  # made, then one commit
    files = hub.repos[REPO].commits[-1][1]
    assert {path for path, _, _ in told.files} == files.keys() - {".gitattributes"}
    assert {"README.md", CONFIG, WEIGHTS, "curves.png", "training/log.jsonl"} <= files.keys()
    back = fetch(REPO, "v1")
    assert torch.equal(load_model(back).eval()(X), load_model(folder).eval()(X))
    assert verify(REPO, revision="v1").name == told.revision


def test_a_difference_goes_up_whole_and_comes_back_without_its_base(hub: Hub, folder: Path, tmp_path: Path) -> None:
    runs = [run.path for run in certification(folder)]
    other = shelve(folder, NAME, certified=runs, base=PACKAGED_NAME, shelf=tmp_path / "differences")
    assert sorted(path.name for path in other.glob("*.safetensors*")) == [DIFFERENCE]
    told, whole = publish(other, REPO), publish(folder, f"{USER}/whole", name=NAME)
    assert [file for file in told.files if file[0] != "README.md"] == [f for f in whole.files if f[0] != "README.md"]
    assert DIFFERENCE not in {path for path, _, _ in told.files}
    shutil.rmtree(tmp_path / "differences")
    back = fetch(REPO, told.revision or "")
    assert torch.equal(load_model(back).eval()(X), load_model(folder).eval()(X))
    assert verify(REPO) == back


def test_a_difference_on_the_hub_is_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    """A folder that someone uploaded as it lies: weights that only a base makes are no weights there."""
    runs = [run.path for run in certification(folder)]
    other = shelve(folder, NAME, certified=runs, base=PACKAGED_NAME, shelf=tmp_path / "differences")
    api = huggingface_hub.HfApi()
    api.create_repo(REPO)
    api.create_commit(
        REPO,
        [huggingface_hub.CommitOperationAdd(p.name, str(p)) for p in other.iterdir() if p.is_file()],
        commit_message="as it lies",
    )
    with pytest.raises(CheckpointError, match=f"expected weights in .*{DIFFERENCE}, found none"):
        verify(REPO)


def test_a_pinned_name_is_fetched_once_and_then_needs_no_request(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = load_model(folder).eval()(X)
    told = publish(folder, REPO)
    pin(NAME, told)
    assert read_pins() == {NAME: {"repo_id": REPO, "revision": told.revision}}
    shutil.rmtree(folder)
    known = timm.models.generate_default_cfgs({NAME: entrypoints._cfg()})["resnet18s_ln_mixednoise"].cfgs["digits"]
    monkeypatch.setitem(timm.models._registry._model_pretrained_cfgs, NAME, known)
    model = timm.create_model(NAME, pretrained=True)
    assert torch.equal(model.eval()(X), want)
    hub.log.clear()
    again = timm.create_model(NAME, pretrained=True)
    assert torch.equal(again.eval()(X), want) and hub.log == []


def test_timms_own_names_of_the_hub_work(hub: Hub, folder: Path) -> None:
    publish(folder, REPO, tag="v1")
    for name in (f"hf-hub:{REPO}", f"hf-hub:{REPO}@v1"):
        model = timm.create_model(name, pretrained=True)
        assert torch.equal(model.eval()(X), load_model(folder).eval()(X))


def test_a_dry_run_asks_nothing_and_says_what_would_go(hub: Hub, folder: Path) -> None:
    (folder / "secret.txt").write_text("mine")
    told = publish(folder, REPO, dry_run=True)
    assert hub.log == [] and told.revision is None
    assert {path for path, _, _ in told.files} >= {"README.md", CONFIG, WEIGHTS, "curves.png"}
    assert "secret.txt" not in {path for path, _, _ in told.files}
    assert dict((path, digest) for path, _, digest in told.files)[WEIGHTS] == sha256(folder / WEIGHTS)


def test_certified_elsewhere_with_the_same_seed_the_votes_are_the_same(hub: Hub, folder: Path) -> None:
    publish(folder, REPO)
    one, two = (SmoothedClassifier(load_model(place)) for place in (folder, fetch(REPO, "main")))
    options: dict[str, Any] = {"n": 300, "seed": 5}
    assert one.certify(X[0], 0.25, **options) == two.certify(X[0], 0.25, **options)


def test_a_fine_tuned_model_without_records_is_refused(hub: Hub, folder: Path) -> None:
    shutil.rmtree(folder / "certification")
    with pytest.raises(CheckpointError, match="has no certification records"):
        publish(folder, REPO)
    assert hub.log == []


def test_records_of_another_network_are_refused(hub: Hub, folder: Path) -> None:
    run = next(folder.glob("certification/*/run.json"))
    told = json.loads(run.read_text())
    told["identity"]["weights"] = "0" * 64
    run.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="holds records of other weights"):
        publish(folder, REPO)
    assert hub.log == []


def test_publishing_again_replaces_and_takes_away(hub: Hub, folder: Path) -> None:
    publish(folder, REPO)
    files = dict(hub.repos[REPO].commits[-1][1])
    files["old.bin"] = b"\0pickle"
    hub.repos[REPO].commit(files)
    told = publish(folder, REPO)
    assert told.removed == ("old.bin",) and "old.bin" not in hub.repos[REPO].commits[-1][1]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("flip", r"sha256|damaged"),
        ("truncate", r"could not be fetched|sha256|size"),
        (404, "could not be fetched|expected weights"),
    ],
)
def test_a_damaged_download_is_refused_and_a_retry_works(hub: Hub, folder: Path, how: Any, said: str) -> None:
    told = publish(folder, REPO)
    hub.fail(rf"GET .*{WEIGHTS}$", how, times=1)
    with pytest.raises(CheckpointError, match=said):
        fetch(REPO, str(told.revision))
    assert torch.equal(load_model(fetch(REPO, str(told.revision))).eval()(X), load_model(folder).eval()(X))


def test_a_repository_with_a_pickle_alone_is_refused(hub: Hub, folder: Path) -> None:
    publish(folder, REPO)
    files = dict(hub.repos[REPO].commits[-1][1])
    files["pytorch_model.bin"] = files.pop(WEIGHTS)
    sha = hub.repos[REPO].commit(files)
    with pytest.raises(CheckpointError, match=f"expected weights in .*{WEIGHTS}, found none"):
        fetch(REPO, sha)
    assert not [line for line in hub.log if "pytorch_model.bin" in line]


def told(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], None]:
    """A lie of config.json."""

    def lie(files: dict[str, bytes]) -> None:
        config = json.loads(files[CONFIG])
        change(config)
        files[CONFIG] = json.dumps(config).encode()

    return lie


def lie_about_norm(config: dict[str, Any]) -> None:
    config["robust_hub"]["norm"] = "gn"
    config["architecture"] = config["architecture"].replace("_ln", "_gn")


def lie_about_layers(files: dict[str, bytes]) -> None:
    """Weights without a layer, under a hash that fits."""
    state = load(files[WEIGHTS])
    del state["layer3.1.conv2.weight"]
    size = int.from_bytes(files[WEIGHTS][:8], "little")
    metadata = json.loads(files[WEIGHTS][8 : 8 + size])["__metadata__"]
    files[WEIGHTS] = save(state, metadata=metadata)
    told(lambda config: config["robust_hub"].update(sha256=hashlib.sha256(files[WEIGHTS]).hexdigest()))(files)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (told(lie_about_norm), "norm"),
        (told(lambda config: config.update(num_classes=7, label_names=None)), "of another shape fc"),
        (told(lambda config: config["robust_hub"].update(sha256="0" * 64)), "sha256"),
        (told(lambda config: config.pop("num_classes")), "config.json names no num_classes"),
        (lie_about_layers, "missing layer3.1.conv2.weight"),
        (lambda files: files.update({CONFIG: b"{"}), "config.json is damaged"),
    ],
)
def test_a_repository_that_lies_is_refused_by_name_and_its_sound_files_stay(
    hub: Hub, folder: Path, lie: Callable[[dict[str, bytes]], None], said: str
) -> None:
    honest = publish(folder, REPO)
    files = dict(hub.repos[REPO].commits[-1][1])
    lie(files)
    sha = hub.repos[REPO].commit(files)
    with pytest.raises(CheckpointError, match=said):
        fetch(REPO, sha)
    if "config" not in said:  # timm reads the config before us
        with pytest.raises(CheckpointError, match=said):
            timm.create_model(f"hf-hub:{REPO}@{sha}", pretrained=True)
    snapshot = Path(constants.HF_HUB_CACHE) / f"models--{REPO.replace('/', '--')}" / "snapshots" / sha
    assert all((snapshot / name).read_bytes() == files[name] for name in (CONFIG, WEIGHTS))  # as the Hub gave them
    with pytest.raises(CheckpointError, match=said):
        fetch(REPO, sha)
    assert torch.equal(load_model(fetch(REPO, str(honest.revision))).eval()(X), load_model(folder).eval()(X))


@pytest.mark.parametrize(
    ("pattern", "status", "said"),
    [
        ("POST /api/models/.*/commit/", 412, "someone else has published"),
        ("POST /api/models/.*/commit/", 401, "log in with `hf auth login`"),
        ("POST /api/models/.*/preupload/", 403, "the token may not write there"),
        ("POST /api/models/.*/preupload/", 429, "the Hub asks for patience"),
        ("POST /api/models/.*/commit/", 429, "the Hub asks for patience"),
        ("POST /api/models/.*/commit/", 500, "could not be published .*: try again"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_refusals_are_one_sentence_and_leave_the_branch(
    hub: Hub, folder: Path, pattern: str, status: int, said: str
) -> None:
    first = publish(folder, REPO)
    hub.fail(pattern, status, times=99)
    with pytest.raises(ConnectionError, match=said):
        publish(folder, REPO)
    assert hub.repos[REPO].refs["main"] == first.revision
    hub.faults.clear()
    publish(folder, REPO)


@pytest.mark.parametrize("status", [403, 429, 503])
@pytest.mark.usefixtures("no_waiting")
def test_weights_that_cannot_be_sent_leave_no_commit(hub: Hub, folder: Path, status: int) -> None:
    hub.fail("PUT /lfs/put/", status, times=99)
    with pytest.raises(ConnectionError, match="could not be published"):
        publish(folder, REPO)
    assert hub.repos[REPO].commits[-1][1].keys() == {".gitattributes"}
    hub.faults.clear()
    publish(folder, REPO)


@pytest.mark.usefixtures("no_waiting")
def test_a_hub_that_asks_for_patience_is_asked_again(hub: Hub, folder: Path) -> None:
    told = publish(folder, REPO)
    hub.fail(rf"GET .*{WEIGHTS}$", 429, times=2)
    back = fetch(REPO, str(told.revision))
    assert sha256(back / WEIGHTS) == sha256(folder / WEIGHTS)
    assert (
        len([line for line in hub.log if line.startswith("GET") and line.endswith(WEIGHTS)]) == 4
    )  # publish's, 3 here


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.usefixtures("no_waiting")
def test_a_hub_that_stays_busy_is_one_sentence_and_later_works(hub: Hub, folder: Path, status: int) -> None:
    told = publish(folder, REPO)
    hub.fail(rf"(HEAD|GET) .*{WEIGHTS}$", status, times=99)
    with pytest.raises(CheckpointError, match="could not be fetched .*: try again"):
        fetch(REPO, str(told.revision))
    hub.faults.clear()
    assert sha256(fetch(REPO, str(told.revision)) / WEIGHTS) == sha256(folder / WEIGHTS)


def test_a_tag_that_is_taken_is_said_before_anything_is_sent(hub: Hub, folder: Path) -> None:
    publish(folder, REPO, tag="v1")
    (folder / "training" / "log.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="has a tag v1 already: name another, nothing was sent"):
        publish(folder, REPO, tag="v1")
    assert len(hub.repos[REPO].commits) == 2


def test_someone_elses_commit_in_between_is_not_overwritten(hub: Hub, folder: Path) -> None:
    publish(folder, REPO)

    def intrude(line: str) -> None:
        if "/commit/" in line:
            hub.hooks.clear()
            hub.repos[REPO].commit({**hub.repos[REPO].commits[-1][1], "theirs.txt": b"x"})

    hub.hooks.append(intrude)
    with pytest.raises(ConnectionError, match="someone else has published"):
        publish(folder, REPO)
    assert "theirs.txt" in hub.repos[REPO].commits[-1][1]


def test_offline_and_not_cached_is_one_sentence_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="is not here and the Hub cannot be reached"):
        fetch(REPO, "a" * 40)


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "hf-hub:timm/test_resnet.r160_in1k@main"])
def test_a_name_of_timm_that_cannot_be_had_is_refused_at_once(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    said = rf"^{name} comes from the Hub: timm/test_resnet.r160_in1k is not here and the Hub cannot be reached"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=rf"{said} \(HF_HUB_OFFLINE is set\): unset it"):
        load_model(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(remote, "get_session", lambda: httpx2.Client(transport=httpx2.MockTransport(_unreachable)))
    with pytest.raises(CheckpointError, match=rf"{said} \(no route\): check the network"):
        load_model(name)
    cached = tmp_path / "cache" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "1"
    cached.mkdir(parents=True)
    (cached.parents[1] / "refs").mkdir()
    (cached.parents[1] / "refs" / "main").write_text(cached.name)
    for file in ("model.safetensors", CONFIG):
        (cached / file).touch()
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: torch.nn.Identity())
    assert isinstance(load_model(name), torch.nn.Identity)


def _unreachable(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("no route", request=request)


def test_a_name_of_timm_without_weights_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model("test_resnet.r160_in1k", pretrained=False, num_classes=3).num_classes == 3
    with pytest.raises(
        ValueError, match="timm has no weights called test_resnet.nosuch: did you mean test_resnet.r160"
    ):
        load_model("test_resnet.nosuch")


def test_no_such_repository_or_revision(hub: Hub, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="has no repository"):
        fetch(REPO, "main")
    publish(folder, REPO)
    with pytest.raises(CheckpointError, match="has no revision v9"):
        fetch(REPO, "v9")


def test_a_private_repository_needs_the_login(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(folder, REPO, private=True)
    fetch(REPO, "main")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match="has no repository"):
        fetch(REPO, "main", cache_dir=folder.parent / "other")


def test_the_token_is_in_no_file_and_no_error(
    hub: Hub, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(folder, REPO)
    hub.fail("POST /api/models/.*/commit/", 403)
    with pytest.raises(ConnectionError) as caught:
        publish(folder, REPO)
    assert f"Bearer {TOKEN}" in hub.seen
    assert TOKEN not in str(caught.value) and TOKEN not in "".join(capfd.readouterr())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert not [
        content for files in hub.repos[REPO].commits for content in files[1].values() if TOKEN.encode() in content
    ]


def test_a_pretrained_checkpoint_goes_up_without_certification(hub: Hub, tmp_path: Path) -> None:
    source = checkpoint_folder("resnet18s_ln_mixednoise")
    assert source is not None
    publish(source, f"{USER}/resnet18s_ln_mixednoise")
    model = timm.create_model("resnet18s_ln")
    save_checkpoint(model, tmp_path / "untold")
    with pytest.raises(CheckpointError, match="has no certification records"):
        publish(tmp_path / "untold", REPO)
    assert read_config(source).provenance.job == "pretrain"


@pytest.mark.full
@pytest.mark.parametrize("norm", ["bn", "gn", "ln"])
def test_with_timms_own_stem_plain_timm_loads_it_from_the_hub(
    port: tuple[Hub, dict[str, str]], tmp_path: Path, norm: str
) -> None:
    _, environment = port
    torch.manual_seed(0)
    model = timm.create_model(f"resnet18s_{norm}", stem="imagenet", num_classes=7).eval()
    folder = save_checkpoint(
        model, tmp_path / "plain", provenance=Provenance.from_json({"job": "pretrain", "sigmas": [0.0]})
    )
    torch.save((X, model(X)), tmp_path / "known.pt")
    done = command(environment, "publish", folder, "--namespace", USER, "--license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    plain = f"""
import sys, timm, torch
x, y = torch.load({str(tmp_path / "known.pt")!r})
model = timm.create_model("hf-hub:{USER}/plain", pretrained=True).eval()
assert "robust_hub" not in sys.modules
assert torch.equal(model(x), y)
"""
    ran = subprocess.run([sys.executable, "-c", plain], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert not (folder / "README.md").exists()  # the card is written for the Hub, not into the user's folder
    sent = fetched_card(environment, f"{USER}/plain")
    assert f'timm.create_model("hf-hub:{USER}/plain", pretrained=True)' in sent and "library_name: timm" in sent


def test_the_hubs_validator_takes_the_card(hub: Hub, folder: Path) -> None:
    write_card(NAME, folder)
    huggingface_hub.ModelCard.load(folder / "README.md").validate()
    assert hub.log == ["POST /api/validate-yaml"]


def test_a_base_model_is_named_in_the_card(hub: Hub, folder: Path) -> None:
    publish(folder, REPO, base_model=f"{USER}/resnet18s_ln_mixednoise")
    card = hub.repos[REPO].commits[-1][1]["README.md"].decode()
    assert f"base_model: {USER}/resnet18s_ln_mixednoise" in card


def test_a_namespace_is_listed_with_what_is_pinned(hub: Hub, folder: Path) -> None:
    told = publish(folder, REPO)
    assert list_published(USER) == [(REPO, str(told.revision), False)]
    pin(NAME, told)
    assert list_published(USER) == [(REPO, str(told.revision), True)]
    assert list_published("nobody") == []


# The command line, in a process of its own, against a loopback port.


def environment_of(address: str, tmp_path: Path) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    hub = Hub()
    with serve(hub) as address:
        yield hub, {**environment_of(address, tmp_path), "HF_HUB_DISABLE_XET": "1"}


def command(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "robust_hub", *map(str, words)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)


def fetched_card(environment: dict[str, str], repo_id: str) -> str:
    with httpx2.Client() as client:
        return client.get(f"{environment['HF_ENDPOINT']}/{repo_id}/resolve/main/README.md").text


LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
sys.argv[0] = "robust-hub"
runpy.run_module("robust_hub", run_name="__main__")
"""


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="limits of files are POSIX")
def test_a_disk_that_is_full_is_one_sentence_and_the_next_try_works(
    port: tuple[Hub, dict[str, str]], folder: Path
) -> None:
    _, environment = port
    assert command(environment, "publish", folder, "--namespace", USER).returncode == 0
    line = [sys.executable, "-c", LIMITED, "verify", REPO]
    full = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert full.returncode == 2 and "could not be fetched" in full.stderr and "Traceback" not in full.stderr
    done = command(environment, "verify", REPO)
    assert done.returncode == 0, done.stderr


def test_the_command_publishes_verifies_and_lists(port: tuple[Hub, dict[str, str]], folder: Path) -> None:
    hub, environment = port
    done = command(environment, "publish", folder, "--namespace", USER, "--tag", "v1")
    assert done.returncode == 0, done.stderr
    sha = hub.repos[REPO].refs["v1"]
    assert f"{REPO} at {sha}: what comes back is what was sent" in done.stdout
    checked = command(environment, "verify", REPO, "--revision", "v1")
    assert checked.returncode == 0 and sha in checked.stdout, checked.stderr
    listed = command(environment, "models", "--remote", "--namespace", USER)
    assert listed.stdout.strip() == f"{REPO} {sha}"
    for told in (done, checked, listed):
        assert TOKEN not in told.stdout + told.stderr
    refused = command({**environment, "HF_TOKEN": "hf_wrong"}, "publish", folder, "--namespace", USER)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr and "log in" in refused.stderr
    assert hub.repos[REPO].refs["main"] == sha


@pytest.mark.full
def test_large_files_go_and_come_by_xet_as_the_client_has_it_by_default(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("hf_xet")
    hub = Hub(xet=tmp_path / "store")
    with serve(hub) as address:
        environment = environment_of(address, tmp_path)
        done = command(environment, "publish", folder, "--namespace", USER, "--tag", "v1")
        assert done.returncode == 0, done.stderr
        assert hub.repos[REPO].commits[-1][1][WEIGHTS] == (folder / WEIGHTS).read_bytes()
        assert [line for line in hub.log if "xet-read-token" in line]
        assert not [line for line in hub.log if "/lfs/" in line or (line.startswith("GET") and line.endswith(WEIGHTS))]
        checked = command({**environment, "HF_HOME": str(tmp_path / "elsewhere")}, "verify", REPO, "--revision", "v1")
        assert checked.returncode == 0, checked.stderr
        shutil.rmtree(tmp_path / "store" / "xet" / "xorbs" / "xorbs")  # Xet itself fails now
        lost = command({**environment, "HF_HOME": str(tmp_path / "third")}, "verify", REPO)
        assert lost.returncode == 2 and "could not be fetched" in lost.stderr and "Traceback" not in lost.stderr, (
            lost.stderr
        )


@pytest.mark.full
@pytest.mark.parametrize("moment", ["preupload", "/lfs/put", "/commit/"])
def test_killed_while_publishing_the_branch_is_old_or_new(
    port: tuple[Hub, dict[str, str]], folder: Path, moment: str
) -> None:
    hub, environment = port
    line = [sys.executable, "-m", "robust_hub", "publish", str(folder), "--namespace", USER]
    running: list[subprocess.Popen[bytes]] = []

    def kill(request: str) -> None:
        if moment in request:
            hub.hooks.clear()
            os.kill(running[0].pid, signal.SIGKILL)

    hub.hooks.append(kill)
    running.append(subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert running[0].wait(300) == -signal.SIGKILL
    files = hub.repos[REPO].commits[-1][1]
    assert files.keys() == {".gitattributes"} or {CONFIG, WEIGHTS, "README.md"} <= files.keys()
    done = command(environment, "publish", folder, "--namespace", USER)
    assert done.returncode == 0, done.stderr
    assert {CONFIG, WEIGHTS, "README.md"} <= hub.repos[REPO].commits[-1][1].keys()


@pytest.mark.full
def test_without_a_network_it_takes_no_minute(folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    begun = time.monotonic()
    for words in (("verify", REPO, "--revision", "v1"), ("publish", folder, "--namespace", USER)):
        done = command(environment, *words)
        assert done.returncode == 2 and "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - begun < 45  # with all of Python's imports; the client's own retries take 23 s more each


@pytest.mark.full
def test_a_cut_connection_is_one_sentence_and_the_next_try_works(
    port: tuple[Hub, dict[str, str]], folder: Path
) -> None:
    hub, environment = port
    hub.fail("/commit/", "cut", times=1)
    done = command(environment, "publish", folder, "--namespace", USER)
    assert done.returncode == 2 and "could not be published" in done.stderr and "Traceback" not in done.stderr
    assert hub.repos[REPO].commits[-1][1].keys() == {".gitattributes"}
    done = command(environment, "publish", folder, "--namespace", USER)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", ["/nowhere", "./nowhere", "nowhere"])
def test_a_folder_that_is_not_there_is_no_repository(hub: Hub, source: str) -> None:
    with pytest.raises(CheckpointError, match=f"expected a checkpoint's name, .* got {Path(source)}, which is none"):
        verify(source)
    assert hub.log == []


def test_a_name_of_the_shelf_is_verified_and_a_folder_comes_before_it(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify("resnet18s_ln_mixednoise") == PACKAGED / "resnet18s_ln_mixednoise"
    (tmp_path / "resnet18s_ln_mixednoise").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="holds no config.json"):
        verify("resnet18s_ln_mixednoise")
    assert hub.log == []


PUBLISH_ALL = """
import sys, torch
from pathlib import Path
from robust_hub.cli.main import main
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import PACKAGED, checkpoint_folder, list_checkpoints
x = torch.linspace(-2, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
known = {}
for name in list_checkpoints():
    folder = checkpoint_folder(name)
    known[name] = load_model(folder).eval()(x).detach()
    main(["publish", str(folder), "--namespace", "someone", "--pin"], standalone_mode=False)
torch.save(known, sys.argv[1])
"""
LOAD_ALL = """
import sys, timm, torch
import robust_hub
from robust_hub.models.shelves import list_checkpoints
assert not list_checkpoints()
x = torch.linspace(-2, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
for name, y in torch.load(sys.argv[1]).items():
    assert torch.equal(timm.create_model(name, pretrained=True).eval()(x), y), name
    print(name)
"""


# Of each kind on the shelf: split and whole files, differences to either, every norm, tags with and without noise.
SAMPLE = [
    "resnet152_ln_mixednoise",
    "resnet152_ln_mixednoise.cifar10",
    "resnet18s_bn_mixednoise.tin_e42",
    "resnet18s_bn_mixednoise.tin_e42_cifar10",
    "resnet18s_gn_mixednoise",
    "resnet18s_in_mixednoise",
    "resnet18s_ln.noise0.25_cifar10",
    "resnet18s_ln_mixednoise.cifar10_head",
]


@pytest.mark.full
def test_what_is_on_the_shelf_comes_back_from_the_hub(port: tuple[Hub, dict[str, str]], tmp_path: Path) -> None:
    """An installation with a shelf publishes and pins all; without shelf and cache it gets the same by name."""
    hub, environment = port
    home = tmp_path / "installation"
    shutil.copytree(Path(robust_hub.__file__).parent, home / "robust_hub", ignore=shutil.ignore_patterns("__pycache__"))
    for name in set(SAMPLE) & set(list_checkpoints()):  # a copy without the shelf has the packaged one alone
        shutil.copytree(checkpoint_folder(name) or "", home / "model_cards" / name)
    names = sorted({path.name for path in (home / "model_cards").glob("*")} | {PACKAGED_NAME})
    environment = {**environment, "PYTHONPATH": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")

    def run(script: str) -> str:
        line = [sys.executable, "-c", script, str(tmp_path / "known.pt")]
        done = subprocess.run(line, env=environment, cwd=home, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(PUBLISH_ALL)
    for local in (home / "model_cards", home / "robust_hub" / "weights", tmp_path / "home"):
        shutil.rmtree(local, ignore_errors=True)
    assert run(LOAD_ALL).split() == names
    hub.log.clear()
    assert run(LOAD_ALL).split() == names and hub.log == []
