"""`dataset=`: an image dataset, its protocols and the files that it is read from."""

from dataclasses import dataclass, field

from zoo.base.errors import UserError


@dataclass
class FileConfig:
    """One file of a dataset, as its authors distribute it."""

    # File name, or path within a data folder. `x.gz` is also found as plain `x` where `content_md5` allows a check.
    name: str
    # Where to download it. null: the file must be put in place by hand.
    url: str | None = None
    # md5 of the file as published (32 hex digits). A download needs it; a file of your own may go without.
    md5: str | None = None
    # md5 of the decompressed content, for files that travel both plain and (re-)compressed with gzip.
    content_md5: str | None = None


@dataclass
class AugmentConfig:
    """Random changes of a training image, drawn anew for every epoch: crop, then flip, then rotate."""

    # Zero pixels put around the image, out of which a window of the original size is cropped at random. 0: no crop.
    padding: int = field(default=0, metadata={"min": 0})
    # Mirror left-right with probability 1/2.
    flip: bool = False
    # Rotate by an angle uniform in [-rotation, rotation] degrees. 0: no rotation.
    rotation: float = field(default=0.0, metadata={"min": 0, "max": 180})


@dataclass
class ProtocolConfig:
    """One way of preparing a data set: split sizes, transform, normalisation, augmentation."""

    # Images of the official training split used for training and for validation; together they are the whole split.
    train: int = field(metadata={"min": 1})
    val: int = field(metadata={"min": 0})
    # Images of the official test split.
    test: int = field(metadata={"min": 1})
    # Per channel, for pixels in [0, 1].
    mean: list[float]
    std: list[float]
    # Turn RGB into one channel of luma (Pillow's "L", ITU-R 601), before anything else.
    grayscale: bool = False
    # How an image comes to the size its architecture wants. none: it must have it. resize: Pillow's bilinear filter
    # with antialiasing. crop: the centre.
    fit: str = field(default="none", metadata={"choices": ("none", "resize", "crop")})
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class DatasetConfig:
    """An image data set (`dataset=`)."""

    # Also the name of the folder under paths.data that its files are kept in.
    name: str
    # For tables and figures.
    title: str
    # A function of zoo/images/readers.py, or `package.module.function` of your own.
    reader: str
    classes: int = field(metadata={"min": 2})
    # [channels, height, width] as distributed.
    image: list[int]
    # The files its reader needs, by the reader's key.
    files: dict[str, FileConfig]
    # `plain` serves the CNNs, `augmented` the ResNets; the architecture says which one it is trained with.
    protocols: dict[str, ProtocolConfig]
    # Train on the first so many training images only (after the split). null: all.
    train_size: int | None = field(default=None, metadata={"min": 1})
    # Which images are held out for validation. The published split has 42.
    split_seed: int = field(default=42, metadata={"min": 0})


def plan_shape(config: DatasetConfig, protocol: str, size: int | None) -> tuple[int, int, int]:
    """Give the (C, H, W) that a protocol will yield, without reading anything; UserError naming all that is wrong."""
    problems = protocol_problems(config, protocol, size)
    if problems:
        raise UserError("\n".join(problems))
    channels, height, width = config.image
    channels = 1 if config.protocols[protocol].grayscale else channels
    return (channels, height, width) if size is None else (channels, size, size)


def protocol_problems(config: DatasetConfig, protocol: str, size: int | None) -> list[str]:
    """Say what keeps a protocol from yielding images of a size: a sentence each, naming the key. Reads no files."""
    if protocol not in config.protocols:
        known = ", ".join(config.protocols)
        return [f"dataset.protocols: {config.name} has no {protocol!r}, which the architecture wants; it has {known}."]
    if len(config.image) != 3:
        return [f"dataset.image={list(config.image)}: should be [channels, height, width]."]

    rules = config.protocols[protocol]
    key = f"dataset.protocols.{protocol}"
    channels, height, width = config.image
    problems = []
    if rules.grayscale and channels != 3:
        problems.append(f"{key}.grayscale=true: needs images of 3 channels, {config.name} has {channels}.")
    out_channels = 1 if rules.grayscale else channels
    for name, values in (("mean", rules.mean), ("std", rules.std)):
        if len(values) != out_channels:
            problems.append(f"{key}.{name}: got {len(values)} values for {out_channels} channels.")
    if any(value <= 0 for value in rules.std):
        problems.append(f"{key}.std={list(rules.std)}: should be above 0.")
    if config.train_size is not None and config.train_size > rules.train:
        problems.append(f"dataset.train_size={config.train_size}: {key} has {rules.train} training images.")

    if size is not None and (height, width) != (size, size):
        what = f"{key}.fit={rules.fit}: {config.name} is {height}×{width}, the architecture wants {size}×{size}"
        if rules.fit == "none":
            problems.append(f"{what}; choose an architecture of that size, or fit resize or crop.")
        elif rules.fit == "crop" and size > min(height, width):
            problems.append(f"{what}, and a crop cannot enlarge; choose a smaller architecture, or fit resize.")
        elif rules.fit == "resize" and out_channels not in (1, 3):
            problems.append(f"{what}, and only images of 1 or 3 channels can be resized, not {out_channels}.")
    return problems


def augments(config: AugmentConfig) -> bool:
    """Whether `augment` changes anything."""
    return bool(config.padding or config.flip or config.rotation)
