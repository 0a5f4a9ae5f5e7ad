"""Small files in the true distribution formats of the image data sets, and configs that read them.

Each `write_*` function puts the files of one data set into a folder, under the names that `conf/dataset` gives them,
and returns the splits a reader should give. Images are uniform noise, labels run through all classes.
"""

import bz2
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.io
from omegaconf import OmegaConf
from PIL import Image

from zoo.images.config import DatasetConfig
from zoo.images.readers import Split, Splits

CONF = Path(__file__).parents[1] / "conf" / "dataset"
DATASETS = sorted(path.stem for path in CONF.glob("*.yaml"))


def read_config(name: str) -> DatasetConfig:
    """The data set's config as published, with seed 42."""
    typed = OmegaConf.create({"seed": 42, "dataset": OmegaConf.structured(DatasetConfig)})
    merged = OmegaConf.merge(typed, {"dataset": OmegaConf.load(CONF / f"{name}.yaml")})
    config = OmegaConf.to_object(merged)["dataset"]  # type: ignore[index, call-overload]
    assert isinstance(config, DatasetConfig)
    return config


def small_config(name: str, train: int, val: int, test: int) -> DatasetConfig:
    """The data set's config for written files: without hashes and addresses, all protocols with these split sizes."""
    config = read_config(name)
    return replace(
        config,
        files={key: replace(file, url=None, md5=None, content_md5=None) for key, file in config.files.items()},
        protocols={
            key: replace(protocol, train=train, val=val, test=test) for key, protocol in config.protocols.items()
        },
    )


def write_idx(folder: Path, n_train: int = 20, n_test: int = 10, seed: int = 0, compress: bool = True) -> Splits:
    """MNIST's or Fashion-MNIST's four files, as gzip or plain."""
    splits = _noise((1, 28, 28), 10, n_train, n_test, seed)
    for (pixels, labels), prefix in zip(splits.values(), ("train", "t10k")):
        n = len(labels).to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        for name, content in (
            (f"{prefix}-images-idx3-ubyte", b"\0\0\x08\x03" + n + side + side + pixels.tobytes()),
            (f"{prefix}-labels-idx1-ubyte", b"\0\0\x08\x01" + n + labels.astype(np.uint8).tobytes()),
        ):
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return splits


def write_svhn(folder: Path, n_train: int = 20, n_test: int = 10, seed: int = 0) -> Splits:
    splits = _noise((3, 32, 32), 10, n_train, n_test, seed)
    for name, (pixels, labels) in splits.items():
        y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        content = {"X": pixels.transpose(2, 3, 1, 0), "y": y}
        scipy.io.savemat(folder / f"{name}_32x32.mat", content, do_compression=True)
    return splits


def write_usps(folder: Path, n_train: int = 20, n_test: int = 10, seed: int = 0) -> Splits:
    splits = _noise((1, 16, 16), 10, n_train, n_test, seed)
    for (pixels, labels), name in zip(splits.values(), ("usps.bz2", "usps.t.bz2")):
        values = np.minimum((pixels.reshape(len(labels), 256) + 0.5) / 255, 1) * 2 - 1
        lines = [
            f"{label + 1} " + " ".join(f"{index}:{value:.6f}" for index, value in enumerate(row, start=1)) + " \n"
            for label, row in zip(labels, values)
        ]
        (folder / name).write_bytes(bz2.compress("".join(lines).encode()))
    return splits


def write_cifar10(folder: Path, n_train: int = 20, n_test: int = 10, seed: int = 0) -> Splits:
    """`n_train` must be a multiple of 5, for the five training batches."""
    splits = _noise((3, 32, 32), 10, n_train, n_test, seed)
    records = {name: _cifar_records(split) for name, split in splits.items()}
    batches = np.split(records["train"], 5)
    members = {
        f"cifar-10-batches-bin/data_batch_{number}.bin": batch.tobytes() for number, batch in enumerate(batches, 1)
    }
    members["cifar-10-batches-bin/test_batch.bin"] = records["test"].tobytes()
    write_tar(folder / "cifar-10-binary.tar.gz", members)
    return splits


def write_cifar100(folder: Path, n_train: int = 200, n_test: int = 100, seed: int = 0) -> Splits:
    splits = _noise((3, 32, 32), 100, n_train, n_test, seed)
    members = {
        f"cifar-100-binary/{name}.bin": np.insert(_cifar_records(split), 0, 19, axis=1).tobytes()  # a coarse label
        for name, split in splits.items()
    }
    write_tar(folder / "cifar-100-binary.tar.gz", members)
    return splits


def write_stl10(folder: Path, n_train: int = 20, n_test: int = 10, seed: int = 0) -> Splits:
    splits = _noise((3, 96, 96), 10, n_train, n_test, seed)
    members = {}
    for name in ("test", "train"):
        pixels, labels = splits[name]
        members[f"stl10_binary/{name}_X.bin"] = pixels.swapaxes(2, 3).tobytes()
        members[f"stl10_binary/{name}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    members["stl10_binary/unlabeled_X.bin"] = bytes(3 * 96 * 96)
    write_tar(folder / "stl10_binary.tar.gz", members)
    return splits


def write_tinyimagenet(folder: Path, n_train: int = 20, n_test: int = 10, classes: int = 10, seed: int = 0) -> Splits:
    """The first training image is a greyscale JPEG. Expected pixels are Pillow's decoding of the JPEGs."""
    rng = np.random.default_rng(seed)
    wnids = [f"n{number:08d}" for number in range(classes)]
    members: dict[str, bytes] = {"wnids.txt": "\n".join(rng.permutation(wnids)).encode()}
    splits = _noise((3, 64, 64), classes, n_train, n_test, seed)
    splits["train"][1].sort()  # the reader goes class by class
    annotations = []
    for name, (pixels, labels) in splits.items():
        for row, label in enumerate(labels):
            jpeg = io.BytesIO()
            image = Image.fromarray(pixels[row].transpose(1, 2, 0))
            if name == "train" and row == 0:
                image = image.convert("L")
            image.save(jpeg, "JPEG")
            pixels[row] = np.asarray(Image.open(jpeg).convert("RGB")).transpose(2, 0, 1)
            if name == "train":
                members[f"train/{wnids[label]}/images/{wnids[label]}_{row:03d}.JPEG"] = jpeg.getvalue()
            else:
                members[f"val/images/val_{row}.JPEG"] = jpeg.getvalue()
                annotations.append(f"val_{row}.JPEG\t{wnids[label]}\t0\t32\t44\t62\n")
    members["val/val_annotations.txt"] = "".join(annotations).encode()
    with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(f"tiny-imagenet-200/{member}", content)
    return splits


WRITERS: dict[str, Callable[..., Splits]] = {
    "mnist": write_idx,
    "fmnist": write_idx,
    "svhn": write_svhn,
    "usps": write_usps,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "stl10": write_stl10,
    "tinyimagenet": write_tinyimagenet,
}


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _noise(shape: tuple[int, int, int], classes: int, n_train: int, n_test: int, seed: int) -> Splits:
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        pixels = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        return pixels, rng.permutation(np.arange(n, dtype=np.int64) % classes)

    return {"train": split(n_train), "test": split(n_test)}


def _cifar_records(split: Split) -> np.ndarray:
    pixels, labels = split
    return np.concatenate([labels[:, None].astype(np.uint8), pixels.reshape(len(labels), 3072)], axis=1)
