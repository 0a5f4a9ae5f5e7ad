"""Files of folders that are no zoos: what is read is what was written, whenever a writer was killed."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.base import files
from zoo.store.manifest import read_listed, write_listed

FIRST, SECOND = b"first\n" * 10, b"second\n" * 20


@settings(max_examples=50)
@given(bit=st.integers(0, 8 * len(FIRST) - 1))
def test_a_flipped_bit_is_told(tmp_path_factory, bit):
    file = tmp_path_factory.mktemp("folder") / "file"
    write_listed(file, FIRST)
    assert read_listed(file) == FIRST
    spoilt = bytearray(FIRST)
    spoilt[bit // 8] ^= 1 << bit % 8
    file.write_bytes(spoilt)
    with pytest.raises(ValueError, match="hash"):
        read_listed(file)
    write_listed(file, FIRST)
    assert read_listed(file) == FIRST


def test_the_manifest_lists_what_is_written_and_no_lock(tmp_path):
    """A lock holds who is at work, which differs from run to run."""
    (tmp_path / "earlier").write_bytes(FIRST)
    write_listed(tmp_path / "file", FIRST)
    assert sorted(json.loads((tmp_path / "manifest.json").read_text())["files"]) == ["earlier", "file"]


class Killed(BaseException):
    pass


def test_killed_at_any_point_the_folder_holds_the_old_or_the_new(tmp_path, monkeypatch):
    """And the next writer goes on from there."""
    real, ended = os.replace, False
    for point in range(10):
        file, left = tmp_path / str(point) / "file", point
        file.parent.mkdir()
        write_listed(file, FIRST)
        write_listed(file.with_name("other"), b"")

        def replace(source, target):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            try:
                write_listed(file, SECOND)
                ended = True
            except Killed:
                pass
        assert read_listed(file) in (FIRST, SECOND)
        assert read_listed(file.with_name("other")) == b""
        file.with_name(f"file.{'0' * 16}.tmp").write_bytes(FIRST)  # a kill leaves it where an error does not
        write_listed(file.with_name("other"), b"")  # whichever file is written next
        assert sorted(path.name for path in file.parent.iterdir()) == ["file", "manifest.json", "other"]
        assert set(map(len, json.loads((file.parent / "manifest.json").read_text())["files"].values())) == {1}
        write_listed(file, SECOND)
        assert read_listed(file) == SECOND
        if ended:
            break
    assert ended
    assert point == 3  # of manifest, file and manifest


def test_a_folder_of_an_earlier_version_is_taken_over(tmp_path, caplog):
    (tmp_path / "old").write_bytes(FIRST)
    assert read_listed(tmp_path / "old") == FIRST
    assert "no manifest.json" in caplog.text
    write_listed(tmp_path / "new", SECOND)
    assert read_listed(tmp_path / "old") == FIRST
    (tmp_path / "old").write_bytes(SECOND)
    with pytest.raises(ValueError, match="hash"):
        read_listed(tmp_path / "old")


@pytest.mark.parametrize("text", ["{", '{"files": []}', '{"files": {"file": "abc"}}', "[]"])
def test_a_damaged_manifest_is_told(tmp_path, text):
    write_listed(tmp_path / "file", FIRST)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json beside it"):
        read_listed(tmp_path / "file")


def test_writers_and_readers_at_once_see_whole_files(tmp_path, monkeypatch):
    """Two processes may keep the same file, while a third reads it. Here they are threads: locks are of open files."""
    monkeypatch.setattr(files.os, "fsync", lambda fd: None)
    write_listed(tmp_path / "file", FIRST)
    problems: list[BaseException] = []

    def work(data: bytes, path: Path) -> None:
        try:
            for _ in range(30):
                write_listed(path, data)
                assert read_listed(tmp_path / "file") in (FIRST, SECOND)
        except BaseException as error:
            problems.append(error)

    threads = [
        threading.Thread(target=work, args=(data, tmp_path / name))
        for data, name in [(FIRST, "file"), (SECOND, "file"), (SECOND, "another")]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert read_listed(tmp_path / "another") == SECOND
