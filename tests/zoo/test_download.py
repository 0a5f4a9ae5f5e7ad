import gzip
import hashlib
import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.loopback import Server, serving
from zoo.base.errors import UserError
from zoo.images import download
from zoo.images.config import FileConfig
from zoo.images.download import find_files

CONTENT = bytes(range(256)) * 2000


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    # Requests would ask a proxy of the environment for 127.0.0.1 too.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> list[float]:
    """Record pooch's waits between attempts instead of waiting."""
    waits: list[float] = []
    monkeypatch.setattr("pooch.core.time.sleep", waits.append)
    logging.getLogger("pooch").setLevel(logging.WARNING)
    return waits


def served(server: Server, name: str = "pixels.bin", content: bytes = CONTENT) -> FileConfig:
    server.content[f"/{name}"] = content
    return FileConfig(name=name, url=f"{server.address}/{name}", md5=md5(content))


def everything_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------------------- local files


@pytest.mark.parametrize("place", ["data/mine", "data", "system"])
def test_local_file_is_found_in_every_place(place, tmp_path):
    path = tmp_path / place / "pixels.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    file = FileConfig("pixels.bin", md5=md5(CONTENT).upper())
    assert find_files("mine", {"pixels": file}, tmp_path / "data", [tmp_path / "system"]) == {"pixels": path}


def test_own_folder_comes_first(tmp_path):
    for folder in ("data/mine", "data", "system"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "x").write_bytes(CONTENT)
    found = find_files("mine", {"x": FileConfig("x")}, tmp_path / "data", [tmp_path / "system"])
    assert found == {"x": tmp_path / "data/mine/x"}


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b""], ids=["truncated", "altered", "empty"])
def test_wrong_file_in_own_folder_is_refused_and_kept(content, tmp_path, server):
    path = tmp_path / "mine" / "pixels.bin"
    path.parent.mkdir()
    path.write_bytes(content)
    file = served(server)
    with pytest.raises(UserError) as error:
        find_files("mine", {"pixels": file}, tmp_path, [])
    message = str(error.value)
    assert all(part in message for part in (str(path), md5(CONTENT), md5(content), "delete it"))
    assert message.count(". ") == 0  # one sentence
    assert path.read_bytes() == content
    assert server.requests == []


def test_same_name_of_another_dataset_in_shared_folder_is_passed_over(tmp_path, server):
    """MNIST and Fashion-MNIST name their files alike."""
    system = tmp_path / "system"
    system.mkdir()
    (system / "pixels.bin").write_bytes(b"another dataset")
    found = find_files("mine", {"pixels": served(server)}, tmp_path / "data", [system])
    assert found["pixels"].read_bytes() == CONTENT
    assert found["pixels"].parent == tmp_path / "data" / "mine"
    assert (system / "pixels.bin").read_bytes() == b"another dataset"


def test_file_passed_over_is_named_when_nothing_else_is_found(tmp_path):
    (tmp_path / "pixels.bin").write_bytes(CONTENT[:100])
    with pytest.raises(UserError) as error:
        find_files("mine", {"pixels": FileConfig("pixels.bin", md5=md5(CONTENT))}, tmp_path, [])
    assert all(part in str(error.value) for part in (str(tmp_path / "pixels.bin"), md5(CONTENT), md5(CONTENT[:100])))


def test_file_without_hash_is_taken_as_it_is(tmp_path):
    (tmp_path / "x").write_bytes(b"anything")
    assert find_files("mine", {"x": FileConfig("x")}, tmp_path, [])["x"].read_bytes() == b"anything"


@pytest.mark.parametrize("packing", ["plain", "gzip", "gzip under plain name"])
def test_content_hash_accepts_any_packing(packing, tmp_path):
    """Debian compressed Fashion-MNIST afresh: other bytes, same content."""
    published = gzip.compress(CONTENT, compresslevel=1, mtime=1)
    file = FileConfig("x.gz", md5=md5(published), content_md5=md5(CONTENT))
    name, content = {
        "plain": ("x", CONTENT),
        "gzip": ("x.gz", gzip.compress(CONTENT, compresslevel=9, mtime=2)),
        "gzip under plain name": ("x", published),
    }[packing]
    (tmp_path / name).write_bytes(content)
    assert find_files("mine", {"x": file}, tmp_path, []) == {"x": tmp_path / name}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "other content"])
def test_content_hash_refuses_damaged_gzip(damage, tmp_path):
    packed = gzip.compress(CONTENT)
    damaged = {
        "truncated": packed[:-20],
        "flipped": packed[:100] + bytes([packed[100] ^ 1]) + packed[101:],
        "other content": gzip.compress(CONTENT + b"!"),
    }[damage]
    path = tmp_path / "mine" / "x.gz"
    path.parent.mkdir()
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f"{path}.*{md5(CONTENT)}.*got"):
        find_files("mine", {"x": FileConfig("x.gz", content_md5=md5(CONTENT))}, tmp_path, [])


def test_plain_form_is_not_taken_unchecked(tmp_path):
    """The md5 of an archive says nothing about its decompressed form."""
    (tmp_path / "x").write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"missing x\.gz"):
        find_files("mine", {"x": FileConfig("x.gz", md5=md5(gzip.compress(CONTENT)))}, tmp_path, [])


# --------------------------------------------------------------------------------------------------------- downloads


def test_download_lands_in_own_folder_and_is_found_again(tmp_path, server):
    file = served(server)
    for _ in range(2):
        found = find_files("mine", {"pixels": file}, tmp_path, [])
        assert found == {"pixels": tmp_path / "mine" / "pixels.bin"}
    assert found["pixels"].read_bytes() == CONTENT
    assert server.requests == ["/pixels.bin"]
    assert everything_under(tmp_path) == ["mine/pixels.bin"]


def test_only_missing_files_are_downloaded_and_keys_keep_their_order(tmp_path, server):
    files = {"a": served(server, "a", b"A"), "b": served(server, "b", b"B"), "c": served(server, "c", b"C")}
    (tmp_path / "b").write_bytes(b"B")
    found = find_files("mine", files, tmp_path, [])
    assert [(key, path.read_bytes()) for key, path in found.items()] == [("a", b"A"), ("b", b"B"), ("c", b"C")]
    assert server.requests == ["/a", "/c"]


def test_gzip_declared_as_encoding_is_kept_as_published(tmp_path, server):
    packed = gzip.compress(CONTENT)
    server.headers["Content-Encoding"] = "gzip"
    file = replace(served(server, "x.gz", packed), content_md5=md5(CONTENT))
    assert find_files("mine", {"x": file}, tmp_path, [])["x"].read_bytes() == packed


@pytest.mark.parametrize("parts", [True, False])
def test_download_cut_half_way_goes_on(parts, tmp_path, server, no_waiting):
    file = served(server)
    server.cut["/pixels.bin"], server.parts = 1, parts
    assert find_files("mine", {"pixels": file}, tmp_path, [])["pixels"].read_bytes() == CONTENT
    half, lost = len(CONTENT) // 2, download.CHUNK
    assert server.ranges[0] == 0
    assert half - lost < server.ranges[1] <= half if parts else server.ranges[1] == 0
    assert no_waiting == [1]
    assert everything_under(tmp_path) == ["mine/pixels.bin"]


def test_download_cut_every_time_goes_on_in_a_later_run(tmp_path, server):
    file = served(server)
    server.cut["/pixels.bin"] = download.RETRIES + 1
    with pytest.raises(UserError, match=r"failed.*put it into"):
        find_files("mine", {"pixels": file}, tmp_path, [])
    assert everything_under(tmp_path) == ["mine/pixels.bin.part"]
    assert find_files("mine", {"pixels": file}, tmp_path, [])["pixels"].read_bytes() == CONTENT
    assert server.ranges[0] == 0
    assert all(a < b for a, b in itertools.pairwise(server.ranges)), "each attempt goes on from the one before"
    assert everything_under(tmp_path) == ["mine/pixels.bin"]


@pytest.mark.parametrize("part", [CONTENT, CONTENT[:-1] + b"x", b"of another file", CONTENT + b"more"])
def test_part_of_an_earlier_run_is_trusted_by_its_hash_only(part, tmp_path, server):
    file = served(server)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pixels.bin.part").write_bytes(part)
    assert find_files("mine", {"pixels": file}, tmp_path, [])["pixels"].read_bytes() == CONTENT
    assert server.ranges == [len(part), 0][: 1 + (part != CONTENT)]
    assert everything_under(tmp_path) == ["mine/pixels.bin"]


def test_two_processes_download_once(tmp_path, server):
    file = served(server)
    server.delay = 0.5  # long enough for the others to ask, too
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find_files("mine", {"pixels": file}, tmp_path, []), range(4)))
    assert {one["pixels"].read_bytes() for one in found} == {CONTENT}
    assert server.requests == ["/pixels.bin"]
    assert everything_under(tmp_path) == ["mine/pixels.bin"]


def test_wrong_file_from_server_is_refused_and_not_kept(tmp_path, server):
    file = served(server)
    server.content["/pixels.bin"] = b"moved, see our new page"
    with pytest.raises(UserError) as error:
        find_files("mine", {"pixels": file}, tmp_path, [])
    message = str(error.value)
    assert all(part in message for part in (str(file.url), md5(CONTENT), md5(b"moved, see our new page")))
    assert message.count(". ") == 0
    assert everything_under(tmp_path) == []


def test_pins_that_contradict_each_other_are_refused(tmp_path, server):
    file = replace(served(server, "x.gz", gzip.compress(CONTENT)), content_md5=md5(b"something else"))
    with pytest.raises(UserError, match=r"dataset\.files\.x\.md5 and .*content_md5 contradict"):
        find_files("mine", {"x": file}, tmp_path, [])


def test_download_without_pinned_hash_is_refused(tmp_path, server):
    file = replace(served(server), md5=None)
    with pytest.raises(UserError, match=r"no hash is pinned \(dataset\.files\.pixels\.md5\)"):
        find_files("mine", {"pixels": file}, tmp_path, [])
    assert server.requests == []


@pytest.mark.parametrize("failure", ["404", "no server"])
def test_missing_file_is_one_sentence(failure, tmp_path, server):
    address = server.address if failure == "404" else "http://127.0.0.1:9"
    files = {name: FileConfig(f"{name}.bin", f"{address}/{name}.bin", md5(CONTENT)) for name in ("pixels", "labels")}
    system = tmp_path / "system"
    with pytest.raises(UserError) as error:
        find_files("mine", files, tmp_path / "data", [system])
    message = str(error.value)
    expected = [
        "Dataset mine: missing pixels.bin, labels.bin",
        str(tmp_path / "data" / "mine"),
        str(system),
        f"{address}/pixels.bin and {address}/labels.bin",
        f"put them into {tmp_path / 'data' / 'mine'}",
        "answered 404" if failure == "404" else "no network?",
    ]
    assert all(part in message for part in expected)
    assert message.count(". ") == 0
    assert "\n" not in message
    assert len(set(server.requests)) <= 1  # the second file is not tried when the first cannot be had


def test_file_without_address_says_where_to_put_it(tmp_path):
    with pytest.raises(UserError, match=r"missing mine\.npz;.*dataset\.files\.x\.url.*put it into"):
        find_files("mine", {"x": FileConfig("mine.npz")}, tmp_path, [])


def test_unwritable_data_folder_is_named(tmp_path, server):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write .*paths\.data"):
        find_files("mine", {"pixels": served(server)}, tmp_path / "data", [])
