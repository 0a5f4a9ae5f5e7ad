import bz2
import gzip
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests import dataset_files
from tests.dataset_files import WRITERS, read_config
from zoo.base.errors import UserError
from zoo.images import readers
from zoo.images.data import find_reader


def files_of(name: str, folder: Path) -> dict[str, Path]:
    return {key: folder / file.name for key, file in read_config(name).files.items()}


def read(name: str, folder: Path) -> readers.Splits:
    return find_reader(read_config(name).reader)(files_of(name, folder))


def assert_same(got: readers.Splits, expected: readers.Splits) -> None:
    assert got.keys() == expected.keys()
    for name, (pixels, labels) in expected.items():
        assert got[name][0].dtype == np.uint8
        assert got[name][1].dtype == np.int64
        np.testing.assert_array_equal(got[name][0], pixels)
        np.testing.assert_array_equal(got[name][1], labels)


@pytest.mark.parametrize("name", WRITERS)
def test_pixels_and_labels_are_read_exactly(name, tmp_path):
    expected = WRITERS[name](tmp_path, seed=3)
    assert_same(read(name, tmp_path), expected)
    for pixels, labels in expected.values():
        assert pixels.min() == 0
        assert pixels.max() == 255
        assert labels.min() == 0


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file_is_refused_by_name(name, share, tmp_path):
    WRITERS[name](tmp_path)
    for path in files_of(name, tmp_path).values():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError, match=path.name):
            read(name, tmp_path)
        path.write_bytes(whole)
    read(name, tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_flipped_bit_is_refused_or_harmless(name, tmp_path):
    """All of these formats but plain IDX carry checksums: no flipped bit may change what is read."""
    expected = WRITERS[name](tmp_path)
    rng = np.random.default_rng(0)
    refusals = []
    for path in files_of(name, tmp_path).values():
        whole = path.read_bytes()
        for position in rng.integers(0, len(whole), 8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                got = read(name, tmp_path)
            except UserError as error:
                refusals.append((path.name, str(error)))
            else:
                assert_same(got, expected)
        path.write_bytes(whole)
    assert refusals
    assert all(name in message for name, message in refusals)


def test_idx_gzip_and_plain_are_equal(tmp_path):
    expected = dataset_files.write_idx(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    plain = {key: path.with_suffix("") for key, path in files_of("mnist", tmp_path).items()}
    assert_same(readers.idx(plain), expected)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"!"], ids=["short", "long"])
def test_plain_idx_of_wrong_length_is_refused(change, tmp_path):
    dataset_files.write_idx(tmp_path, compress=False)
    files = {key: path.with_suffix("") for key, path in files_of("mnist", tmp_path).items()}
    for path in files.values():
        whole = path.read_bytes()
        path.write_bytes(change(whole))
        with pytest.raises(UserError, match=rf"{path}: its header promises \d+ values but it holds (\d+|more)"):
            readers.idx(files)
        path.write_bytes(whole)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("promised", "held", "said"),
    [
        (2**29, 100, "promises 536870912 values but it holds"),
        (2**32 - 1, 100, "promises more than 1,073,741,824 values"),
        (100, 2**24, "promises 100 values but it holds more"),
    ],
)
def test_what_an_idx_file_promises_bounds_what_is_read(promised, held, said, pack, tmp_path):
    """Neither what a header says nor what a file unpacks to is given memory where the two differ."""
    file = tmp_path / "labels"
    file.write_bytes(pack(b"\0\0\x08\x01" + promised.to_bytes(4, "big") + bytes(held)))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=f"^{file}: its header {said}"):
            readers._read_idx(file, 1)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_idx_counts_must_agree(tmp_path):
    for name, n_train in (("a", 20), ("b", 21)):
        (tmp_path / name).mkdir()
        dataset_files.write_idx(tmp_path / name, n_train=n_train)
    mixed = files_of("mnist", tmp_path / "a") | {"train_labels": files_of("mnist", tmp_path / "b")["train_labels"]}
    with pytest.raises(UserError, match="21 labels for 20 images"):
        readers.idx(mixed)


def test_idx_of_other_dimensions_is_refused(tmp_path):
    dataset_files.write_idx(tmp_path)
    swapped = files_of("mnist", tmp_path)
    swapped["train_images"] = swapped["train_labels"]
    with pytest.raises(UserError, match="not an IDX file of bytes with 3 dimensions"):
        readers.idx(swapped)


def test_svhn_with_one_image_keeps_its_dimensions(tmp_path):
    expected = dataset_files.write_svhn(tmp_path, n_train=1, n_test=1)
    assert_same(read("svhn", tmp_path), expected)


@pytest.mark.parametrize(
    "line",
    [
        b"1 " + b" ".join(b"%d:0" % index for index in range(1, 256)),  # one value short
        b"1 " + b" ".join(b"%d:0" % index for index in range(2, 258)),  # indices from 2
        b"1 " + b" ".join(b"%d:1.5" % index for index in range(1, 257)),  # out of range
        b"1 " + b" ".join(b"%d:nan" % index for index in range(1, 257)),
        b"",
    ],
)
def test_usps_line_of_another_form_is_refused(line, tmp_path):
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(line))
    with pytest.raises(UserError, match=r"usps\.bz2.*libsvm"):
        read("usps", tmp_path)


def test_usps_extremes_are_black_and_white(tmp_path):
    line = b"10 " + b" ".join(b"%d:%d" % (index, -1 if index % 2 else 1) for index in range(1, 257))
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(bz2.compress(line))
    pixels, labels = read("usps", tmp_path)["train"]
    assert labels.tolist() == [9]
    assert pixels.reshape(-1)[:4].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("name", WRITERS)
def test_what_unpacks_to_more_than_a_data_set_is_refused(name, tmp_path, monkeypatch):
    """A bomb of gigabytes, by way of a small limit."""
    WRITERS[name](tmp_path)
    read(name, tmp_path)
    monkeypatch.setattr(readers, "LARGEST", 50)
    monkeypatch.setattr(readers, "LARGEST_MEMBER", 50)
    with pytest.raises(UserError, match=r"unpacks to more than 50 bytes|more than 50 values"):
        read(name, tmp_path)


@pytest.mark.parametrize(
    ("members", "said"),
    [({}, "There is no item named"), ({"wnids.txt": "", "val/val_annotations.txt": ""}, "holds no images")],
)
def test_an_empty_zip_is_refused(members, said, tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        for name, text in members.items():
            archive.writestr(f"tiny-imagenet-200/{name}", text)
    with pytest.raises(UserError, match=rf"empty\.zip: .*{said}"):
        readers.tinyimagenet({"archive": tmp_path / "empty.zip"})


def test_a_picture_of_a_gigapixel_is_refused(tmp_path):
    dataset_files.write_tinyimagenet(tmp_path)
    path = next(iter(files_of("tinyimagenet", tmp_path).values()))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    large = next(name for name in sorted(members) if name.endswith(".JPEG"))
    size = members[large].index(b"\xff\xc0") + 5
    members[large] = members[large][:size] + b"\xff\xdc\xff\xdc" + members[large][size + 4 :]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match="DecompressionBombError"):
        read("tinyimagenet", tmp_path)


def test_archive_member_is_wanted_by_exact_name(tmp_path):
    path = tmp_path / "cifar-100-binary.tar.gz"
    record = bytes(3074)
    dataset_files.write_tar(path, {"cifar-100-binary/train.bin": record, "../cifar-100-binary/test.bin": record})
    with pytest.raises(UserError, match=r"does not hold cifar-100-binary/test\.bin"):
        read("cifar100", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_cifar_with_half_a_record_is_refused(tmp_path):
    members = {"cifar-100-binary/train.bin": bytes(3074 + 100), "cifar-100-binary/test.bin": bytes(3074)}
    dataset_files.write_tar(tmp_path / "cifar-100-binary.tar.gz", members)
    with pytest.raises(UserError, match=r"train\.bin \(3174 bytes\) is no whole number of records"):
        read("cifar100", tmp_path)


def test_cifar100_labels_are_the_fine_ones(tmp_path):
    record = bytes([7, 93]) + bytes(3072)
    members = {f"cifar-100-binary/{split}.bin": record for split in ("train", "test")}
    dataset_files.write_tar(tmp_path / "cifar-100-binary.tar.gz", members)
    assert read("cifar100", tmp_path)["test"][1].tolist() == [93]


def test_digits_test_split_is_fixed_and_disjoint():
    first, second = readers.digits({}), readers.digits({})
    assert_same(first, second)
    assert first["train"][0].shape == (1497, 1, 8, 8)
    assert first["test"][0].shape == (300, 1, 8, 8)
    assert np.bincount(first["test"][1]).min() >= 20

    together = np.concatenate([first[split][0].reshape(-1, 64) for split in ("train", "test")])
    original = np.round(load_digits().data * 255 / 16).astype(np.uint8)
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(original, axis=0))
    assert together.max() == 255
