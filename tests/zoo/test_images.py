import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional
from torch.utils.data import TensorDataset, random_split

from tests import dataset_files
from tests.dataset_files import DATASETS, WRITERS, read_config, small_config
from zoo.base.errors import UserError
from zoo.images.config import AugmentConfig, DatasetConfig, plan_shape, protocol_problems
from zoo.images.data import ImageData, Images, augment, load_images, split_rows
from zoo.images.download import find_local

# ------------------------------------------------------------------------------------------- the published protocols

PUBLISHED = {  # dataset, protocol, size: (train, val, test), shape, mean, std
    ("mnist", "plain", 28): ((50000, 10000, 10000), (1, 28, 28), [0.1307], [0.3081]),
    ("fmnist", "plain", 28): ((50000, 10000, 10000), (1, 28, 28), [0.5], [0.5]),
    ("svhn", "plain", 28): ((60000, 13257, 26032), (1, 28, 28), [0.5], [0.5]),
    ("usps", "plain", 28): ((6000, 1291, 2007), (1, 28, 28), [0.1307], [0.3081]),
    ("cifar10", "plain", 28): ((42000, 8000, 10000), (3, 28, 28), [0.5] * 3, [0.5] * 3),
    ("cifar10", "plain", 32): ((42000, 8000, 10000), (3, 32, 32), [0.5] * 3, [0.5] * 3),
    ("stl10", "plain", 28): ((4200, 800, 8000), (3, 28, 28), [0.5] * 3, [0.5] * 3),
    ("stl10", "plain", 32): ((4200, 800, 8000), (3, 32, 32), [0.5] * 3, [0.5] * 3),
    ("cifar10", "augmented", None): (
        (40000, 10000, 10000),
        (3, 32, 32),
        [125.3 / 255, 123.0 / 255, 113.9 / 255],
        [63.0 / 255, 62.1 / 255, 66.7 / 255],
    ),
    ("cifar100", "augmented", None): (
        (40000, 10000, 10000),
        (3, 32, 32),
        [0.5071, 0.4867, 0.4408],
        [0.2675, 0.2565, 0.2761],
    ),
    ("tinyimagenet", "augmented", None): (
        (100000, 0, 10000),
        (3, 64, 64),
        [0.485, 0.456, 0.406],
        [0.229, 0.224, 0.225],
    ),
}
AUGMENTED = {"cifar10": (4, True, 0), "cifar100": (4, True, 0), "tinyimagenet": (0, True, 20)}


@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_published_protocol(case):
    name, protocol, size = case
    config = read_config(name)
    rules = config.protocols[protocol]
    sizes, shape, mean, std = PUBLISHED[case]
    assert (rules.train, rules.val, rules.test) == sizes
    assert plan_shape(config, protocol, size) == shape
    assert rules.mean == pytest.approx(mean, abs=1e-15)
    assert rules.std == pytest.approx(std, abs=1e-15)
    expected = AUGMENTED[name] if protocol == "augmented" else (0, False, 0)
    assert (rules.augment.padding, rules.augment.flip, rules.augment.rotation) == expected
    assert config.split_seed == 42


@pytest.mark.parametrize("name", DATASETS)
def test_every_download_is_pinned(name):
    config = read_config(name)
    assert config.name == name
    assert all(file.url and file.md5 and len(file.md5) == 32 for file in config.files.values())


# ------------------------------------------------------------------------------------------------ impossible protocols


@pytest.mark.parametrize(
    ("name", "protocol", "size", "words"),
    [
        ("mnist", "plain", 32, ["dataset.protocols.plain.fit=none", "mnist is 28×28", "wants 32×32"]),
        ("svhn", "plain", 36, ["fit=crop", "32×32", "36×36", "cannot enlarge"]),
        ("stl10", "augmented", None, ["stl10 has no 'augmented'", "has plain"]),
    ],
)
def test_impossible_size_or_protocol_is_refused(name, protocol, size, words, tmp_path):
    with pytest.raises(UserError) as error:
        plan_shape(read_config(name), protocol, size)
    assert all(word in str(error.value) for word in words)
    with pytest.raises(UserError):  # before any file is looked for
        load_images(read_config(name), protocol, size, tmp_path, [])


def test_all_problems_are_named_at_once():
    config = read_config("mnist")
    config.train_size = 50001
    rules = config.protocols["plain"]
    rules.grayscale = True
    rules.mean = [0.5, 0.5, 0.5]
    rules.std = [0.0]
    problems = protocol_problems(config, "plain", 32)
    keys = ["plain.grayscale=true", "plain.mean", "plain.std=[0.0]", "dataset.train_size=50001", "plain.fit=none"]
    assert len(problems) == len(keys)
    assert all(key in problem for key, problem in zip(keys, problems))


@pytest.mark.parametrize("name", DATASETS)
def test_planned_shape_is_what_is_loaded(name, tmp_path):
    for protocol in read_config(name).protocols:
        size = None if name in ("mnist", "fmnist", "tinyimagenet") or protocol == "augmented" else 28
        data = load(name, tmp_path, protocol, size)
        for images in (data.train, data.val, data.test):
            assert images.pixels.shape == (len(images), *data.shape)
            assert (images.pixels.dtype, images.labels.dtype) == (torch.uint8, torch.int64)
        assert data.shape == plan_shape(read_config(name), protocol, size)


def load(name: str, folder: Path, protocol: str = "plain", size: int | None = None, **changes) -> ImageData:
    """Load written files of a data set (the real ones for digits), in 60 % training and 40 % validation images."""
    if name == "digits":
        return load_images(replace(read_config(name), **changes), protocol, size, folder, [])
    splits = WRITERS[name](folder)
    n_train, n_test = len(splits["train"][1]), len(splits["test"][1])
    config = small_config(name, n_train * 6 // 10, n_train * 4 // 10, n_test)
    return load_images(replace(config, **changes), protocol, size, folder, [])


# --------------------------------------------------------------------------------------------------------------- split


@pytest.mark.parametrize(("train", "val", "seed"), [(12, 8, 42), (50000, 10000, 42), (7, 0, 1), (1197, 300, 0)])
def test_split_is_random_split(train, val, seed):
    rows = TensorDataset(torch.arange(train + val))
    expected = random_split(rows, [train, val], generator=torch.Generator().manual_seed(seed))
    for got, subset in zip(split_rows(train, val, seed), expected):
        assert got.tolist() == list(subset.indices)


def test_images_lie_in_split_order(tmp_path):
    original = dataset_files.write_idx(tmp_path, n_train=20, n_test=10)
    data = load_images(small_config("mnist", 12, 8, 10), "plain", None, tmp_path, [])
    pixels = TensorDataset(torch.from_numpy(original["train"][0]), torch.from_numpy(original["train"][1]))
    expected = random_split(pixels, [12, 8], generator=torch.Generator().manual_seed(42))
    for images, subset in zip((data.train, data.val), expected):
        assert torch.equal(images.pixels, torch.stack([subset[row][0] for row in range(len(subset))]))
        assert torch.equal(images.labels, torch.stack([subset[row][1] for row in range(len(subset))]))
    np.testing.assert_array_equal(data.test.pixels, original["test"][0])
    np.testing.assert_array_equal(data.test.labels, original["test"][1])


def test_train_size_keeps_the_first_images_and_the_validation_split(tmp_path):
    whole, part = load("mnist", tmp_path), load("mnist", tmp_path, train_size=5)
    assert torch.equal(part.train.pixels, whole.train.pixels[:5])
    assert torch.equal(part.train.labels, whole.train.labels[:5])
    assert torch.equal(part.val.pixels, whole.val.pixels)


def test_split_without_validation_images(tmp_path):
    dataset_files.write_tinyimagenet(tmp_path, n_train=20, n_test=10)
    data = load_images(small_config("tinyimagenet", 20, 0, 10), "augmented", None, tmp_path, [])
    assert data.val.pixels.shape == (0, 3, 64, 64)
    assert data.normalise(data.val.pixels).shape == (0, 3, 64, 64)
    assert sorted(data.train.labels.tolist()) == sorted(list(range(10)) * 2)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((12, 7, 10), ["plain.train=12", "plain.val=7", "the 20 images"]),
        ((12, 8, 11), ["plain.test=11", "the 10 images"]),
    ],
)
def test_sizes_that_differ_from_the_files_are_refused(sizes, words, tmp_path):
    dataset_files.write_idx(tmp_path, n_train=20, n_test=10)
    with pytest.raises(UserError) as error:
        load_images(small_config("mnist", *sizes), "plain", None, tmp_path, [])
    assert all(word in str(error.value) for word in words)


def wrong_pixels(files):
    return {split: (np.zeros((10, 1, 28, 27), np.uint8), np.zeros(10, np.int64)) for split in ("train", "test")}


def wrong_labels(files):
    return {split: (np.zeros((10, 1, 28, 28), np.uint8), np.full(10, 10)) for split in ("train", "test")}


def no_test_split(files):
    return {"train": (np.zeros((10, 1, 28, 28), np.uint8), np.arange(10))}


def no_splits(files):
    return wrong_labels(files)["train"]


def no_arrays(files):
    return {"train": ([0], [0]), "test": ([0], [0])}


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        (
            "no_test_split",
            r"'test' split of two NumPy arrays \(it gives: train\); it must return \{\"train\": \(pixels",
        ),
        ("no_splits", r"no 'train' split of two NumPy arrays \(it gives: tuple\)"),
        ("no_arrays", r"no 'train' split of two NumPy arrays \(it gives: train, test\)"),
        ("wrong_pixels", r"\[1, 28, 27\].*dataset\.image says uint8 \[1, 28, 28\]"),
        ("wrong_labels", r"run from 10 to 10, dataset\.classes=10 allows 0 to 9"),
    ],
)
def test_reader_of_the_users_own_is_found_and_checked(reader, words, tmp_path):
    config = replace(read_config("mnist"), reader=f"{__name__}.{reader}", files={})
    with pytest.raises(UserError, match=words):
        load_images(config, "plain", None, tmp_path, [])


def test_file_that_the_config_forgot_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"dataset\.files: the reader needs the file 'train_images', the config has none"
    ):
        load_images(replace(read_config("mnist"), files={}), "plain", None, tmp_path, [])


@pytest.mark.parametrize("reader", ["idxx", "zoo.images.readers.nothing", "no_such_package.function", "json.decoder"])
def test_unknown_reader_is_refused(reader, tmp_path):
    with pytest.raises(UserError, match=f"^dataset.reader: {reader} (is none of|cannot be imported|is no function)"):
        load_images(replace(read_config("digits"), reader=reader), "plain", 28, tmp_path, [])


# ----------------------------------------------------------------------------------------------------------- transform


def images_of(pixels: np.ndarray) -> list[Image.Image]:
    """One Pillow image for each of uint8 [n, C, H, W]."""
    return [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]


def pixels_of(images: list[Image.Image]) -> np.ndarray:
    arrays = [np.asarray(image) for image in images]
    return np.stack([a[None] if a.ndim == 2 else a.transpose(2, 0, 1) for a in arrays])


@pytest.mark.parametrize(
    ("name", "size"), [("usps", 28), ("cifar10", 28), ("stl10", 28), ("stl10", 32), ("stl10", 97), ("usps", 7)]
)
def test_resize_is_pillows_bilinear(name, size, tmp_path):
    original = WRITERS[name](tmp_path)
    got = load_images(small_config(name, 12, 8, 10), "plain", size, tmp_path, []).test.pixels
    expected = [image.resize((size, size), Image.Resampling.BILINEAR) for image in images_of(original["test"][0])]
    np.testing.assert_array_equal(got, pixels_of(expected))


def test_resize_to_native_size_changes_nothing(tmp_path):
    original = dataset_files.write_cifar10(tmp_path)
    got = load_images(small_config("cifar10", 12, 8, 10), "plain", 32, tmp_path, [])
    np.testing.assert_array_equal(got.test.pixels, original["test"][0])


@pytest.mark.parametrize("size", [32, 28, 27])
def test_svhn_is_pillows_luma_then_centre_crop(size, tmp_path):
    original = dataset_files.write_svhn(tmp_path)
    got = load_images(small_config("svhn", 12, 8, 10), "plain", size, tmp_path, []).test.pixels
    edge = {32: 0, 28: 2, 27: 2}[size]  # torchvision rounds (32 - 27) / 2 to even
    box = (edge, edge, edge + size, edge + size)
    expected = [image.convert("L").crop(box) for image in images_of(original["test"][0])]
    np.testing.assert_array_equal(got, pixels_of(expected))


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_normalise_is_bit_equal_to_its_formula(name, device, tmp_path):
    protocol = "plain" if name == "mnist" else "augmented"
    data = load(name, tmp_path, protocol).to(device)
    channels = data.shape[0]
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 256, 1, 1).expand(2, -1, -1, 3).reshape(2, 1, 16, 48)
    pixels = pixels.expand(2, channels, 16, 48).contiguous()
    rules = read_config(name).protocols[protocol]
    x = pixels.numpy().astype(np.float32) / np.float32(255)
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (rules.mean, rules.std))
    got = data.normalise(pixels.to(device))
    assert got.dtype == torch.float32
    assert got.device.type == device
    np.testing.assert_array_equal(got.cpu(), (x - mean) / std)
    assert torch.equal(data.normalise(pixels[0, None, None].to(device)), got[None, None, 0])  # any leading dimensions
    assert pixels.dtype == torch.uint8


def test_tiny_imagenet_normalisation_equals_the_published_one_on_0_to_255(tmp_path):
    dataset_files.write_tinyimagenet(tmp_path)
    data = load_images(small_config("tinyimagenet", 20, 0, 10), "augmented", None, tmp_path, [])
    mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(data.normalise(data.test.pixels), (data.test.pixels.float() - mean) / std)


def test_to_moves_everything(tmp_path):
    moved = load("mnist", tmp_path).to("meta")
    tensors = [moved.mean, moved.std]
    for images in (moved.train, moved.val, moved.test):
        tensors += [images.pixels, images.labels]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


# -------------------------------------------------------------------------------------------------------- augmentation


def slow_augment(image: np.ndarray, config: AugmentConfig, u: np.ndarray) -> np.ndarray:
    """Pad, crop and flip one image [C, H, W] step by step (without rotation)."""
    _, height, width = image.shape
    p = config.padding
    top, left = int(np.floor(u[0] * (2 * p + 1))), int(np.floor(u[1] * (2 * p + 1)))
    image = np.pad(image, ((0, 0), (p, p), (p, p)))[:, top : top + height, left : left + width]
    return image[:, :, ::-1] if config.flip and u[2] < 0.5 else image


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(0, 4), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, 5),
    flip=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_augment_equals_slow_reference(shape, padding, flip, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    uniforms = rng.random((shape[0], 4), dtype=np.float32)
    config = AugmentConfig(padding=padding, flip=flip)
    got = augment(torch.from_numpy(pixels), config, torch.from_numpy(uniforms))
    assert got.dtype == torch.uint8
    assert got.shape == shape
    for row in range(shape[0]):
        np.testing.assert_array_equal(got[row], slow_augment(pixels[row], config, uniforms[row]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(64, 64), (33, 20)])
def test_rotation_is_that_of_grid_sample(size, device):
    """Against affine_grid, which is how torchvision rotates tensors, where no two pixels are equally near."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    pixels = torch.randint(1, 256, (40, 3, *size), generator=generator, dtype=torch.uint8)
    uniforms = torch.rand(40, 4, generator=generator)
    got = augment(pixels.to(device), AugmentConfig(rotation=20), uniforms.to(device)).cpu()

    angle = torch.deg2rad(40 * uniforms[:, 3].double() - 20)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [torch.stack([cos, -sin * height / width, 0 * cos], 1), torch.stack([sin * width / height, cos, 0 * cos], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), [40, 3, *size], align_corners=False)
    expected = functional.grid_sample(pixels.double(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    coordinates = ((grid + 1) * torch.tensor([width, height]) - 1) / 2
    clear = ((coordinates - coordinates.floor() - 0.5).abs() > 1e-3).all(-1)
    assert clear.float().mean() > 0.99
    assert torch.equal(got.permute(0, 2, 3, 1)[clear], expected.to(torch.uint8).permute(0, 2, 3, 1)[clear])


def test_rotation_is_counter_clockwise_and_at_most_its_limit():
    pixels = torch.zeros(3, 1, 9, 9, dtype=torch.uint8)
    pixels[:, :, 4, 8] = 255  # at three o'clock
    uniforms = torch.tensor([[0, 0, 0, 0.0], [0, 0, 0, 0.5], [0, 0, 0, 1 - 2**-24]])
    got = augment(pixels, AugmentConfig(rotation=90), uniforms)
    assert [tuple(image[0].nonzero()[0].tolist()) for image in got] == [(8, 4), (4, 8), (0, 4)]


@pytest.mark.parametrize("config", [AugmentConfig(padding=4, flip=True), AugmentConfig(flip=True, rotation=20)])
def test_image_is_augmented_the_same_in_any_company(config):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (23, 3, 32, 32), generator=generator, dtype=torch.uint8)
    uniforms = torch.rand(23, 4, generator=generator)
    before = pixels.clone()
    together = augment(pixels, config, uniforms)
    alone = torch.cat([augment(pixels[row : row + 1], config, uniforms[row : row + 1]) for row in range(23)])
    assert torch.equal(together, alone)
    assert torch.equal(pixels, before)
    assert not torch.equal(together, pixels)


def test_crop_reaches_every_position_and_no_other():
    uniforms = torch.zeros(1000, 4)
    uniforms[:, 0] = torch.linspace(0, 1 - 2**-24, 1000)
    pixels = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 9, 1).expand(1000, 1, 9, 9)
    centres = augment(pixels, AugmentConfig(padding=4), uniforms)[:, 0, 4, 4]
    assert centres.unique().tolist() == list(range(1, 10))
    assert torch.equal(augment(pixels, AugmentConfig(), uniforms), pixels)


# --------------------------------------------------------------------------------------------------------- fingerprint


def change_pixel(config: DatasetConfig, folder: Path) -> None:
    _flip_bit(folder / "train-images-idx3-ubyte", -1)


def change_validation_or_training_label(config: DatasetConfig, folder: Path) -> None:
    _flip_bit(folder / "train-labels-idx1-ubyte", -1)


def change_test_pixel(config: DatasetConfig, folder: Path) -> None:
    _flip_bit(folder / "t10k-images-idx3-ubyte", 16)


def change_test_label(config: DatasetConfig, folder: Path) -> None:
    _flip_bit(folder / "t10k-labels-idx1-ubyte", 8)


def change_train_size(config: DatasetConfig, folder: Path) -> None:
    config.train_size = 11


def change_seed(config: DatasetConfig, folder: Path) -> None:
    config.split_seed = 43


def change_split(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].train, config.protocols["plain"].val = 13, 7


def change_mean(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].mean = [0.13070001]


def change_std(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].std = [0.3]


def change_fit(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].fit = "crop"


def change_padding(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].augment.padding = 1


def change_flip(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].augment.flip = True


def change_rotation(config: DatasetConfig, folder: Path) -> None:
    config.protocols["plain"].augment.rotation = 1


def change_classes(config: DatasetConfig, folder: Path) -> None:
    config.classes = 11


def _flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def fingerprint(
    folder: Path, change=lambda config, folder: None, compress: bool = False, size: int | None = None
) -> str:
    folder.mkdir(parents=True)
    dataset_files.write_idx(folder, compress=compress)
    config = small_config("mnist", 12, 8, 10)
    change(config, folder)
    return load_images(config, "plain", size, folder, []).fingerprint


@pytest.mark.parametrize("change", [value for name, value in list(globals().items()) if name.startswith("change_")])
def test_fingerprint_changes_with_every_ingredient(change, tmp_path):
    before = fingerprint(tmp_path / "before")
    assert len(bytes.fromhex(before)) == 32
    assert fingerprint(tmp_path / "after", change) != before


def test_fingerprint_ignores_path_packing_and_how_the_native_size_is_asked_for(tmp_path):
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b" / "c", compress=True, size=28)


def test_fingerprint_sees_size_and_grayscale(tmp_path):
    dataset_files.write_svhn(tmp_path)
    config = small_config("svhn", 12, 8, 10)
    grey = [load_images(config, "plain", size, tmp_path, []).fingerprint for size in (28, 32)]
    config.protocols["plain"] = replace(config.protocols["plain"], grayscale=False, mean=[0.5] * 3, std=[0.5] * 3)
    assert len({*grey, load_images(config, "plain", 32, tmp_path, []).fingerprint}) == 3


def counting_pixels(files):
    pixels = (np.arange(20 * 28 * 28) % 251).astype(np.uint8).reshape(20, 1, 28, 28)
    return {split: (pixels, np.arange(20) % 10) for split in ("train", "test")}


def test_fingerprint_stays_the_same_for_ever():
    """A stored zoo names the fingerprint of its data: a new value here means that no old zoo can be continued."""
    config = replace(small_config("mnist", 12, 8, 20), reader=f"{__name__}.counting_pixels", files={})
    assert (
        load_images(config, "plain", None, Path(), []).fingerprint
        == "5f887f05c8d7b5a95cc013abb17058bc3d86a75332498c19d1f7d4f176310c3d"
    )


# ---------------------------------------------------------------------------------------------------------- real files

REAL_FOLDERS = [Path(os.environ.get("HYPERZOO_TEST_DATA", "no such folder")), Path("/usr/share/datasets/fashion-mnist")]


def load_real(name: str) -> ImageData:
    config = read_config(name)
    for file in config.files.values():
        if find_local(file, REAL_FOLDERS[0] / name, REAL_FOLDERS)[0] is None:
            pytest.skip(f"the real {file.name} of {name} is in neither $HYPERZOO_TEST_DATA nor {REAL_FOLDERS[1]}")
    return load_images(config, "plain", 28, REAL_FOLDERS[0], REAL_FOLDERS[1:])


def all_train(data: ImageData) -> Images:
    return Images(torch.cat([data.train.pixels, data.val.pixels]), torch.cat([data.train.labels, data.val.labels]))


def test_real_mnist():
    data = load_real("mnist")
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    train = all_train(data)
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.pixels.float().div(255).mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert train.pixels.float().div(255).std().item() == pytest.approx(0.3081, abs=5e-5)


def test_real_fashion_mnist():
    data = load_real("fmnist")
    assert data.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    train = all_train(data)
    assert train.labels.bincount().tolist() == [6000] * 10
    assert train.pixels.float().div(255).mean().item() == pytest.approx(0.2860, abs=5e-5)
    assert (len(data.train), len(data.val), len(data.test)) == (50000, 10000, 10000)


def test_real_digits(tmp_path):
    data = load("digits", tmp_path, size=28)
    assert (len(data.train), len(data.val), len(data.test)) == (1197, 300, 300)
    images = all_train(data)
    flat = torch.cat([images.pixels, data.test.pixels]).flatten(1)
    assert len(flat.unique(dim=0)) == 1797  # no image is in two splits
