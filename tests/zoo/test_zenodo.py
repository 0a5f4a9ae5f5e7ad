"""Published zoos from Zenodo, as a small server on loopback plays it."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from run import CONFIG_DIR
from tests.loopback import serving
from zoo.base.errors import UserError
from zoo.exchange import zenodo
from zoo.exchange.zenodo import EXPERIMENTS, download_zoo

NAME = "tune_zoo_mnist_uniform"


def packed(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "of a model" * 1000)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with serving() as state:
        monkeypatch.setattr(zenodo, "ZENODO", state.address)
        yield state


def offer(server, name: str, content: bytes, digest: str | None = None):
    links = {"self": f"{server.address}/records/6632086/files/{name}?download=1"}
    listed = [{"key": name, "checksum": f"md5:{digest or hashlib.md5(content).hexdigest()}", "links": links},
              {"key": "dataset.pt", "checksum": "md5:0", "links": links}]  # fmt: skip
    server.content["/api/records/6632086"] = json.dumps({"files": listed}).encode()
    server.content[f"/records/6632086/files/{name}?download=1"] = content


def test_a_zoo_is_downloaded_and_unpacked_once(server, tmp_path):
    offer(server, f"{NAME}.zip", packed(f"{NAME}/trial/params.json"))
    folder = download_zoo("mnist_seed", "zenodo", tmp_path)
    assert (folder / NAME / "trial" / "params.json").read_text().startswith("of a model")
    asked = len(server.requests)
    assert download_zoo("mnist_seed", "zenodo", tmp_path) == folder
    assert len(server.requests) == asked


def test_a_connection_that_breaks_is_tried_again(server, tmp_path):
    offer(server, f"{NAME}.zip", packed("trial/params.json"))
    server.cut[f"/records/6632086/files/{NAME}.zip?download=1"] = 1
    assert (download_zoo("mnist_seed", "zenodo", tmp_path) / "trial" / "params.json").exists()


def test_a_connection_that_always_breaks_is_told_and_goes_on_later(server, tmp_path):
    offer(server, f"{NAME}.zip", packed("trial/params.json"))
    server.cut[f"/records/6632086/files/{NAME}.zip?download=1"] = 99
    with pytest.raises(UserError, match="unpack it, and give its folder: source=DIR"):
        download_zoo("mnist_seed", "zenodo", tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{NAME}.zip.part"]
    server.cut.clear()
    assert (download_zoo("mnist_seed", "zenodo", tmp_path) / "trial" / "params.json").exists()


def test_a_wrong_hash_is_told_and_nothing_is_kept(server, tmp_path):
    offer(server, f"{NAME}.zip", packed("trial/params.json"), digest="0" * 32)
    with pytest.raises(UserError, match=r"Zoo mnist_seed: .* does not give the published file"):
        download_zoo("mnist_seed", "zenodo", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_twin_has_a_record_of_its_own(server, tmp_path):
    content = packed("trial/params.json")
    listed = [{"key": "cnn_small_mnist_ard.zip", "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
               "links": {"self": f"{server.address}/of/another/number"}}]  # fmt: skip
    server.content["/api/records/7023335"] = json.dumps({"files": listed}).encode()
    server.content["/of/another/number"] = content
    assert (download_zoo("mnist_seed", "zenodo_sparse", tmp_path) / "trial").is_dir()
    with pytest.raises(UserError, match="known for the sparsified twin of zoo=mnist_hyp10f; there are mnist_seed"):
        download_zoo("mnist_hyp10f", "zenodo_sparse", tmp_path)


def test_another_name_is_asked_for(server, tmp_path):
    offer(server, "mnist_raw.zip", packed("trial/params.json"))
    with pytest.raises(UserError, match=r"has no tune_zoo_mnist_uniform\.zip, but dataset\.pt, mnist_raw\.zip"):
        download_zoo("mnist_seed", "zenodo", tmp_path)
    assert (download_zoo("mnist_seed", "zenodo:mnist_raw.zip", tmp_path) / "trial").is_dir()


def test_what_cannot_be_had_is_told(server, tmp_path):
    with pytest.raises(
        UserError, match=r"get tune_zoo_mnist_uniform\.zip from https://doi\.org/10\.5281/zenodo\.6632086"
    ):
        download_zoo("mnist_seed", "zenodo", tmp_path)
    with pytest.raises(UserError, match="known for the zoo zoo=cifar100_resnet18_seed; there are "):
        download_zoo("cifar100_resnet18_seed", "zenodo", tmp_path)
    offer(server, f"{NAME}.zip", b"no zip")
    with pytest.raises(UserError, match=r"cannot be unpacked \(File is not a zip file\)"):
        download_zoo("mnist_seed", "zenodo", tmp_path)


def test_an_archive_does_not_leave_its_folder(server, tmp_path):
    offer(server, f"{NAME}.zip", packed("trial/params.json", "../../escaped"))
    with pytest.raises(UserError, match="would leave the folder"):
        download_zoo("mnist_seed", "zenodo", tmp_path / "data")
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("params.json"))


def test_every_name_is_of_a_preset():
    presets = {path.stem for path in Path(CONFIG_DIR / "zoo").glob("*.yaml")}
    assert set(EXPERIMENTS) <= presets
    assert len(set(EXPERIMENTS.values())) == len(EXPERIMENTS) == 24
