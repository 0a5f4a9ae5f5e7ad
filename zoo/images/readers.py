"""Readers of image datasets, one for each original distribution format.

A reader takes the paths of a dataset's files by key and gives both official splits:
`{"train": (pixels, labels), "test": (pixels, labels)}` with pixels uint8 `[n, C, H, W]` in 0..255 and labels int64
`[n]` from 0. A file that is truncated or ill-formed, or unpacks to more than any of these data sets, raises a `UserError` that
names it. Members of archives are read by exact name into memory and never extracted, and no pickle is ever read.

A reader of your own is any function of that form; name it in the dataset's YAML as `reader: package.module.function`.
"""

import bz2
import gzip
import io
import math
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image
from tqdm import tqdm

from zoo.base.errors import UserError
from zoo.images.download import GZIP_MAGIC

Split = tuple[np.ndarray, np.ndarray]
Splits = dict[str, Split]
Reader = Callable[[Mapping[str, Path]], Splits]
LARGEST = 2**30  # bytes of a file, unpacked
DEFLATE = 1032  # times, at most, that gzip makes anything smaller
LARGEST_MEMBER = 2**24  # of a zip of small pictures


def _ill_formed(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; replace it by an intact copy.")


def _unpacked(stream: gzip.GzipFile | bz2.BZ2File, path: Path) -> bytes:
    """All that a packed file holds, up to its end, where its checksum is."""
    data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise _ill_formed(path, f"unpacks to more than {LARGEST:,} bytes")
    return data


def _equally_many(path: Path, pixels: np.ndarray, labels: np.ndarray) -> Split:
    if len(pixels) != len(labels):
        raise _ill_formed(path, f"holds {len(labels)} labels for {len(pixels)} images")
    return pixels, labels


# ---------------------------------------------------------------------------------------------------------------- IDX


def idx(files: Mapping[str, Path]) -> Splits:
    """MNIST's IDX format, plain or gzip: files `train_images`, `train_labels`, `test_images`, `test_labels`."""

    def split(name: str) -> Split:
        pixels = _read_idx(files[f"{name}_images"], dimensions=3)[:, None]
        labels = _read_idx(files[f"{name}_labels"], dimensions=1).astype(np.int64)
        return _equally_many(files[f"{name}_labels"], pixels, labels)

    return {"train": split("train"), "test": split("test")}


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """One IDX file of unsigned bytes: 0, 0, type 8, number of dimensions, big-endian sizes, values row-major."""
    header, magic = 4 + 4 * dimensions, bytes([0, 0, 8, dimensions])
    with open(path, "rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        try:
            with gzip.open(file) if packed else file as stream:
                begin = stream.read(header)
                if len(begin) < header or not begin.startswith(magic):
                    raise _ill_formed(
                        path, f"not an IDX file of bytes with {dimensions} dimensions (begins {begin[:4].hex()!r})"
                    )
                shape = np.frombuffer(begin, ">u4", offset=4).tolist()
                if (values := math.prod(shape)) > LARGEST:
                    raise _ill_formed(path, f"its header promises more than {LARGEST:,} values")
                room = path.stat().st_size * (DEFLATE if packed else 1) - header
                if values > room:  # told before memory is asked for
                    most = "at most " if packed else ""
                    raise _ill_formed(path, f"its header promises {values} values but it holds {most}{room}")
                raw = stream.read(values + 1)  # no more than that, whatever it unpacks to; the end has gzip's checksum
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _ill_formed(path, f"damaged or truncated gzip ({error})") from error
    if len(raw) != values:
        holds = "more" if len(raw) > values else str(len(raw))
        raise _ill_formed(path, f"its header promises {values} values but it holds {holds}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


# --------------------------------------------------------------------------------------------------------------- SVHN


def svhn(files: Mapping[str, Path]) -> Splits:
    """SVHN cropped digits, one MATLAB file per split: files `train`, `test`. The digit 0 is stored as label 10."""
    return {"train": _read_svhn(files["train"]), "test": _read_svhn(files["test"])}


def _read_svhn(path: Path) -> Split:
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(str(path))}
        if any(math.prod(shapes.get(name, ())) > LARGEST for name in ("X", "y")):
            raise ValueError(f"X or y has more than {LARGEST:,} values")
        content = scipy.io.loadmat(str(path), variable_names=["X", "y"])
        pixels, labels = content["X"], content["y"].astype(np.int64).reshape(-1)
    except Exception as error:  # scipy raises a dozen kinds, according to where a file is damaged
        raise _ill_formed(path, f"not a readable MATLAB file with X and y ({type(error).__name__}: {error})") from error
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (32, 32, 3):
        raise _ill_formed(path, f"X should be uint8 [32, 32, 3, n], is {pixels.dtype} {list(pixels.shape)}")
    pixels = pixels.reshape(32, 32, 3, -1)  # MATLAB drops the last dimension if n = 1
    return _equally_many(path, pixels.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels))


# --------------------------------------------------------------------------------------------------------------- USPS


def usps(files: Mapping[str, Path]) -> Splits:
    """USPS in libsvm's sparse text format, bzip2: files `train`, `test`. 16×16 values in [-1, 1], labels from 1."""
    return {"train": _read_usps(files["train"]), "test": _read_usps(files["test"])}


def _read_usps(path: Path) -> Split:
    try:
        with bz2.open(path) as stream:
            lines = _unpacked(stream, path).splitlines()
        # "label 1:v1 2:v2 … 256:v256": all values are written out, also zeros.
        table = np.array([line.replace(b":", b" ").split() for line in lines], dtype=np.float32)
        if table.ndim != 2 or table.shape[1] != 513 or (table[:, 1::2] != np.arange(1, 257)).any():
            raise ValueError("each line should hold a label and 256 indexed values")
        if not (abs(table[:, 2::2]) <= 1).all():
            raise ValueError("values should lie in [-1, 1]")
    except (ValueError, OSError, EOFError) as error:
        raise _ill_formed(path, f"not a readable bzip2 file in libsvm format ({error})") from error
    # Truncated, not rounded: as torchvision's reader does, whose pixels the published zoos were trained on.
    pixels = ((table[:, 2::2] + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, 16, 16)
    return pixels, table[:, 0].astype(np.int64) - 1


# --------------------------------------------------------------------------------------------------- CIFAR and STL-10


def cifar10(files: Mapping[str, Path]) -> Splits:
    """CIFAR-10, binary version: file `archive`, a tar.gz with five training batches and one test batch."""
    batches = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
    return _read_cifar(files["archive"], batches, "cifar-10-batches-bin/test_batch.bin", label_bytes=1)


def cifar100(files: Mapping[str, Path]) -> Splits:
    """CIFAR-100, binary version: file `archive`, a tar.gz. The labels are the 100 fine ones."""
    return _read_cifar(files["archive"], ["cifar-100-binary/train.bin"], "cifar-100-binary/test.bin", label_bytes=2)


def _read_cifar(path: Path, train: list[str], test: str, label_bytes: int) -> Splits:
    """Records of label bytes (the last one is the fine label) and 3·32·32 pixels, channel by channel, row-major."""
    members = _read_tar(path, [*train, test])

    def records(names: list[str]) -> Split:
        for name in names:
            if len(members[name]) % (label_bytes + 3072):
                raise _ill_formed(path, f"{name} ({len(members[name])} bytes) is no whole number of records")
        raw = np.frombuffer(b"".join(members[name] for name in names), np.uint8).reshape(-1, label_bytes + 3072)
        return raw[:, label_bytes:].reshape(-1, 3, 32, 32), raw[:, label_bytes - 1].astype(np.int64)

    return {"train": records(train), "test": records([test])}


def stl10(files: Mapping[str, Path]) -> Splits:
    """STL-10, binary version: file `archive`, a tar.gz. 96×96 images stored column by column, labels from 1."""
    path = files["archive"]
    parts = {split: (f"stl10_binary/{split}_X.bin", f"stl10_binary/{split}_y.bin") for split in ("train", "test")}
    members = _read_tar(path, [name for names in parts.values() for name in names])

    def split(images: str, labels: str) -> Split:
        if len(members[images]) % (3 * 96 * 96):
            raise _ill_formed(path, f"{images} ({len(members[images])} bytes) is no whole number of 3×96×96 images")
        pixels = np.frombuffer(members[images], np.uint8).reshape(-1, 3, 96, 96).swapaxes(2, 3)
        return _equally_many(path, pixels, np.frombuffer(members[labels], np.uint8).astype(np.int64) - 1)

    return {name: split(*names) for name, names in parts.items()}


def _read_tar(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Read the wanted members of a tar.gz in one pass, up to its very end, where gzip keeps its checksum."""
    members: dict[str, bytes] = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() and member.name in wanted else None
                if content is not None:
                    if member.size > LARGEST:
                        raise _ill_formed(path, f"{member.name} unpacks to more than {LARGEST:,} bytes")
                    members[member.name] = content.read()
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise _ill_formed(path, f"damaged or truncated tar.gz ({error})") from error
    absent = [name for name in wanted if name not in members]
    if absent:
        raise _ill_formed(path, f"does not hold {', '.join(absent)}")
    return members


# ------------------------------------------------------------------------------------------------------- Tiny-ImageNet


def tinyimagenet(files: Mapping[str, Path]) -> Splits:
    """Tiny-ImageNet-200: file `archive`, a zip of 64×64 JPEGs. The official validation images are the test split.

    Classes are numbered in the order of the sorted WordNet ids of `wnids.txt`; greyscale JPEGs become RGB.
    """
    path = files["archive"]
    root = "tiny-imagenet-200"
    try:
        with zipfile.ZipFile(path) as archive:
            wnids = sorted(_member(archive, f"{root}/wnids.txt").decode().split())
            annotations = [
                line.split("\t") for line in _member(archive, f"{root}/val/val_annotations.txt").decode().splitlines()
            ]
            # Sorted names: the order in which torchvision's ImageFolder lists the extracted files.
            names = sorted(name for name in archive.namelist() if name.endswith(".JPEG"))
            train = [(name, name.split("/")[2]) for name in names if name.startswith(f"{root}/train/")]
            test = [(f"{root}/val/images/{fields[0]}", fields[1]) for fields in annotations]
            if not (train and test):
                raise ValueError("it holds no images")
            return {
                "train": _read_jpegs(archive, train, wnids, "training"),
                "test": _read_jpegs(archive, test, wnids, "test"),
            }
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, LookupError, ValueError, RuntimeError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise _ill_formed(path, f"not a readable Tiny-ImageNet zip ({type(error).__name__}: {error})") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_MEMBER:
        raise ValueError(f"{name} unpacks to more than {LARGEST_MEMBER:,} bytes")
    return archive.read(name)


def _read_jpegs(archive: zipfile.ZipFile, images: list[tuple[str, str]], wnids: list[str], what: str) -> Split:
    """Decode images given as (member name, WordNet id)."""
    label = {wnid: number for number, wnid in enumerate(wnids)}
    pixels = np.empty((len(images), 3, 64, 64), np.uint8)
    labels = np.empty(len(images), np.int64)
    for row, (name, wnid) in enumerate(tqdm(images, f"Tiny-ImageNet, {what} images", unit="image", disable=None)):
        with Image.open(io.BytesIO(_member(archive, name))) as image:
            if image.size != (64, 64):
                raise ValueError(f"{name} is {image.size[0]}×{image.size[1]}, should be 64×64")
            pixels[row] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        labels[row] = label[wnid]
    return pixels, labels


# ------------------------------------------------------------------------------------------------------------- digits

DIGITS_TEST_IMAGES = 300
DIGITS_TEST_SEED = 42


def digits(files: Mapping[str, Path]) -> Splits:
    """scikit-learn's bundled 8×8 handwritten digits (1797 images, values 0..16 brought to 0..255); needs no file.

    There is no official test split, so a fixed one of 300 images is carved here, the same for every seed of a config.
    """
    from sklearn.datasets import load_digits  # here, because this import alone takes a second

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    generator = torch.Generator().manual_seed(DIGITS_TEST_SEED)
    order = torch.randperm(len(labels), generator=generator).numpy()
    test, train = order[:DIGITS_TEST_IMAGES], order[DIGITS_TEST_IMAGES:]
    return {"train": (pixels[train], labels[train]), "test": (pixels[test], labels[test])}


READERS: dict[str, Reader] = {
    reader.__name__: reader for reader in (idx, svhn, usps, cifar10, cifar100, stl10, tinyimagenet, digits)
}
