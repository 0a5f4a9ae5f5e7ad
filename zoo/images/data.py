"""Image data sets: from the files of their authors to the three splits that a population is trained on.

The splits, transforms and normalisations of the published zoos (Model Zoos, Schürholt et al., 2022, and its code) are
values in `conf/dataset/*.yaml`; the dataclasses below type and explain them. Images are held once, as uint8, and
normalised where they are used.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.base.errors import UserError, naming
from zoo.base.plugins import find
from zoo.images.config import AugmentConfig, DatasetConfig, ProtocolConfig, augments, plan_shape
from zoo.images.download import find_files
from zoo.images.readers import READERS, Reader, Splits


@dataclass(frozen=True)
class Images:
    """One split: pixels uint8 `[n, C, H, W]` in 0..255, labels int64 `[n]` from 0."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Images":
        """Give the same images on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData:
    """A data set as one protocol prepares it, in memory.

    `shape` is (C, H, W); `val` may hold 0 images; `mean` and `std` are float32 `[C]` for pixels in [0, 1];
    `fingerprint` is the hex sha256 of all that a trained model can depend on: pixels, labels, split and transform.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    train: Images
    val: Images
    test: Images
    mean: Tensor
    std: Tensor
    augment: AugmentConfig
    fingerprint: str

    def to(self, device: torch.device | str) -> "ImageData":
        """Give the same data on a device."""
        return replace(
            self,
            train=self.train.to(device),
            val=self.val.to(device),
            test=self.test.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
        )

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turn uint8 pixels `[..., C, H, W]` into float32 of the same shape: (pixels / 255 - mean) / std.

        The result has, bit for bit, the values of torchvision's ToTensor and Normalize, on every device.
        """
        mean = self.mean.to(pixels.device).view(-1, 1, 1)
        std = self.std.to(pixels.device).view(-1, 1, 1)
        # 255 as a tensor of the device: CUDA would replace the division by a Python number with a multiplication by its
        # reciprocal, which rounds otherwise.
        return pixels.float().div_(mean.new_full((), 255.0)).sub_(mean).div_(std)


def load_images(
    config: DatasetConfig, protocol: str, size: int | None, data_folder: Path, system_folders: Sequence[Path]
) -> ImageData:
    """Read a data set (downloading it if need be) and prepare it by one of its protocols.

    The validation images are those that `torch.utils.data.random_split` holds out of the official training split with
    `split_seed`; the images of a split lie in the order of that permutation, so the same seed gives the same batches
    everywhere (the published zoos shuffled once more, without a seed).

    Args:
        config: the data set.
        protocol: name of one of `config.protocols`.
        size: height and width that the architecture wants in pixels; None: as distributed.
        data_folder: where image files are looked for first and downloaded to, see `zoo.images.download.find_files`.
        system_folders: further folders to look into.

    Raises:
        UserError: the protocol does not fit, a file is missing, damaged or not the published one, or the files hold
            other images than the config says.
    """
    shape = plan_shape(config, protocol, size)
    rules = config.protocols[protocol]
    reader = find_reader(config.reader)
    files = find_files(config.name, config.files, Path(data_folder), [Path(path) for path in system_folders])
    splits = reader(_Files(files))
    _check_splits(config, protocol, splits)

    train_rows, val_rows = split_rows(rules.train, rules.val, config.split_seed)
    train = _prepare(*splits["train"], train_rows[: config.train_size], rules, shape)
    val = _prepare(*splits["train"], val_rows, rules, shape)
    test = _prepare(*splits["test"], np.arange(rules.test), rules, shape)
    return ImageData(
        name=config.name,
        classes=config.classes,
        shape=shape,
        train=train,
        val=val,
        test=test,
        mean=torch.tensor([float(value) for value in rules.mean]),
        std=torch.tensor([float(value) for value in rules.std]),
        augment=rules.augment,
        fingerprint=_fingerprint(config, rules, shape, {"train": train, "val": val, "test": test}),
    )


class _Files(dict[str, Path]):
    """Paths by key, with a word for the author of a new YAML file that forgot one."""

    def __missing__(self, key: str) -> Path:
        raise UserError(
            f"dataset.files: the reader needs the file {key!r}, the config has {', '.join(self) or 'none'}."
        )


def split_rows(train: int, val: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows of the official training split used for training and validation, as `random_split` draws them."""
    order = torch.randperm(train + val, generator=torch.Generator().manual_seed(seed)).numpy()
    return order[:train], order[train:]


def find_reader(name: str) -> Reader:
    """Give the reader of that name in `zoo.images.readers`, or of that dotted path; UserError if there is none."""
    if name in READERS:
        return READERS[name]
    with naming("dataset.reader"):
        if "." not in name:
            raise UserError(f"{name} is none of {', '.join(READERS)} and no package.module.function")
        found = find(name)
        if not callable(found):
            raise UserError(f"{name} is no function")
        return found


def _check_splits(config: DatasetConfig, protocol: str, splits: Splits) -> None:
    """Check what a reader read against what the config says; raise UserError at the first difference."""
    rules = config.protocols[protocol]
    source = f"Dataset {config.name}, read by `{config.reader}`"
    for name in ("train", "test"):
        pair = splits.get(name) if isinstance(splits, dict) else None
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, np.ndarray) for part in pair)):
            found = ", ".join(map(str, splits)) if isinstance(splits, dict) else type(splits).__name__
            raise UserError(
                f"{source}: the reader gives no {name!r} split of two NumPy arrays (it gives: {found}); it must return "
                '{"train": (pixels, labels), "test": (pixels, labels)}.'
            )
        pixels, labels = splits[name]
        if pixels.dtype != np.uint8 or pixels.shape[1:] != tuple(config.image):
            raise UserError(
                f"{source}: the {name} images are {pixels.dtype} {list(pixels.shape[1:])}, "
                f"dataset.image says uint8 {list(config.image)}."
            )
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
            raise UserError(
                f"{source}: the {name} labels are {labels.dtype} {list(labels.shape)}, should be int64 [{len(pixels)}]."
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < config.classes:
            raise UserError(
                f"{source}: the {name} labels run from {labels.min()} to {labels.max()}, "
                f"dataset.classes={config.classes} allows 0 to {config.classes - 1}."
            )
    key = f"dataset.protocols.{protocol}"
    n_train, n_test = len(splits["train"][1]), len(splits["test"][1])
    if rules.train + rules.val != n_train:
        raise UserError(
            f"{source}: {key}.train={rules.train} and {key}.val={rules.val} should add up to the {n_train} images "
            f"of the training split."
        )
    if rules.test != n_test:
        raise UserError(f"{source}: {key}.test={rules.test} should be the {n_test} images of the test split.")


def _prepare(
    pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, rules: ProtocolConfig, shape: tuple[int, int, int]
) -> Images:
    """Pick the images of a split and bring them to their shape."""
    pixels = pixels[rows]
    if rules.grayscale:
        pixels = _grayscale(pixels)
    if pixels.shape[1:] != shape:
        pixels = _resize(pixels, shape[1]) if rules.fit == "resize" else _crop(pixels, shape[1])
    return Images(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels[rows]))


def _grayscale(pixels: np.ndarray) -> np.ndarray:
    """Pillow's luma: uint8 [n, 3, H, W] to [n, 1, H, W]. A pixel does not see others, so all images go as one."""
    n, _, height, width = pixels.shape
    if n == 0:
        return pixels[:, :1]
    tall = Image.fromarray(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).reshape(n * height, width, 3))
    return np.array(tall.convert("L")).reshape(n, 1, height, width)


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 [n, C, H, W] to [n, C, size, size] as torchvision does with Pillow images: bilinear, antialiased."""
    n, channels = pixels.shape[:2]
    resized = np.empty((n, size, size, channels), np.uint8)
    for row, image in enumerate(pixels.transpose(0, 2, 3, 1)):
        source = Image.fromarray(np.ascontiguousarray(image.squeeze(2) if channels == 1 else image))
        scaled = source.resize((size, size), Image.Resampling.BILINEAR)
        resized[row] = np.asarray(scaled).reshape(size, size, channels)
    return resized.transpose(0, 3, 1, 2)


def _crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut the centre out of [n, C, H, W]; where it is not unique, the one that torchvision's CenterCrop takes."""
    top, left = (round((length - size) / 2) for length in pixels.shape[2:])
    return pixels[:, :, top : top + size, left : left + size]


def _fingerprint(
    config: DatasetConfig, rules: ProtocolConfig, shape: tuple[int, int, int], splits: dict[str, Images]
) -> str:
    """Give the hex sha256 of content, transform and split: nothing of where the files lay or how they were packed."""
    description = {
        "classes": config.classes,
        "split": {"seed": config.split_seed, "train": rules.train, "val": rules.val, "test": rules.test},
        "transform": {
            "grayscale": rules.grayscale,
            "fit": rules.fit,
            "size": shape[1:],
            "mean": [float(value) for value in rules.mean],
            "std": [float(value) for value in rules.std],
            "augment": {
                "padding": rules.augment.padding,
                "flip": rules.augment.flip,
                "rotation": float(rules.augment.rotation),
            },
        },
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, images in splits.items():
        for what, array in (("pixels", images.pixels.numpy()), ("labels", images.labels.numpy())):
            digest.update(f"\n{name} {what} {array.dtype} {array.shape}\n".encode())
            digest.update(array.data)
    return digest.hexdigest()


def augment(pixels: Tensor, config: AugmentConfig, uniforms: Tensor) -> Tensor:
    """Crop, flip and rotate training images, each by its own random numbers alone.

    To be applied to training images only. (The published ResNet zoos of CIFAR augment their validation images too,
    because those share the training transform; that makes the validation accuracy a random and pessimistic number, so
    it is not done here.)

    Args:
        pixels: uint8 `[n, C, H, W]`.
        config: which changes, see `AugmentConfig`. The pixels that come into view are 0, and interpolation is nearest,
            as in torchvision's RandomCrop and RandomRotation.
        uniforms: float `[n, 4]` in [0, 1), on the device of the pixels. Columns 0 and 1 give the row and column of the
            crop's corner in 0..2·padding; column 2 flips if below 1/2; column 3 gives the angle, counter-clockwise.

    Returns:
        uint8 `[n, C, H, W]` on the same device.
    """
    if not augments(config):
        return pixels
    n, channels, height, width = pixels.shape
    # Walk backwards, from the pixels of the result to those of the input.
    rows = torch.arange(height, device=pixels.device).view(1, height, 1).expand(n, height, width)
    columns = torch.arange(width, device=pixels.device).view(1, 1, width).expand(n, height, width)
    inside = torch.ones_like(rows, dtype=torch.bool)
    if config.rotation > 0:
        angle = torch.deg2rad((uniforms[:, 3] * 2 - 1) * config.rotation).view(n, 1, 1)
        y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
        rows = (torch.sin(angle) * x + torch.cos(angle) * y + (height - 1) / 2).round().long()
        columns = (torch.cos(angle) * x - torch.sin(angle) * y + (width - 1) / 2).round().long()
        # The window of the crop ends here: what the rotation brings into view is 0, not the crop's surroundings.
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    if config.flip:
        flipped = (uniforms[:, 2] < 0.5).view(n, 1, 1)
        columns = torch.where(flipped, width - 1 - columns, columns)
    if config.padding > 0:
        positions = 2 * config.padding + 1
        # The product stays below `positions`, also rounded, because that is no power of two.
        corner = (uniforms[:, :2] * positions).long() - config.padding
        rows = rows + corner[:, 0].view(n, 1, 1)
        columns = columns + corner[:, 1].view(n, 1, 1)
        inside = inside & (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    source = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    source = source.reshape(n, 1, height * width).expand(n, channels, height * width)
    return pixels.reshape(n, channels, height * width).gather(2, source).view_as(pixels) * inside.unsqueeze(1)
