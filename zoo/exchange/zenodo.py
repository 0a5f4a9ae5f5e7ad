"""The published zoos on Zenodo: which record and archive each is, downloaded and unpacked (Model Zoos, appendix)."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import requests
from tqdm import tqdm

from zoo.base.errors import UserError
from zoo.base.files import locked
from zoo.images.download import TIMEOUT, Unavailable, fetch

ZENODO = "https://zenodo.org"
RAW, SPARSE = "zenodo", "zenodo_sparse"  # words of source=: the zoo, or its sparsified twin
RECORDS = {  # 10.5281/zenodo.…, by the beginning of a preset's name
    "mnist": 6632086,
    "fmnist": 6632104,
    "svhn": 6632120,
    "usps": 6633626,
    "cifar10": 6620868,
    "stl10": 6631783,
}


def _experiments() -> dict[str, str]:
    """The names of the experiments' folders by preset: hardly two are made by the same rule."""
    found = {}
    for preset, name, seed in (("mnist", "mnist", "seeds"), ("fmnist", "f_mnist", "seeds"), ("svhn", "svhn", "seeds"),
                               ("usps", "usps", "seed")):  # fmt: skip
        found[f"{preset}_seed"] = f"tune_zoo_{name}_uniform"
        for kind, word in (("hyp10r", "random"), ("hyp10f", "fixed")):
            found[f"{preset}_{kind}"] = f"tune_zoo_{name}_hyperparameter_10_{word}_{seed}"
    for preset, name, size in (("cifar10", "cifar10", "small"), ("cifar10_m", "cifar10", "large"),
                               ("stl10", "stl", "small"), ("stl10_m", "stl", "large")):  # fmt: skip
        found[f"{preset}_seed"] = f"tune_zoo_{name}_uniform_{size}"
        for kind, word in (("hyp10r", "random"), ("hyp10f", "fixed")):
            found[f"{preset}_{kind}"] = f"tune_zoo_{name}_{size}_hyperparameter_10_{word}_seeds"
    return found | {"stl10_seed": "tune_zoo_stl_small_uniform", "stl10_m_seed": "tune_zoo_stl_uniform_large"}


EXPERIMENTS = _experiments()
TWINS = {"mnist_seed": (7023335, "cnn_small_mnist_ard"), "svhn_seed": (7027566, "cnn_small_svhn_ard")}


def is_zenodo(source: str) -> bool:
    """Whether a source is a word for Zenodo, and no folder: `zenodo`, `zenodo_sparse`, each also with :FILE."""
    return source.partition(":")[0] in (RAW, SPARSE)


def zenodo_problems(preset: str, source: str) -> list[str]:
    """What forbids to download a preset's zoo, a sentence each."""
    twin = source.partition(":")[0] == SPARSE
    offered = TWINS if twin else EXPERIMENTS
    if preset in offered:
        return []
    what = "the sparsified twin of" if twin else "the zoo"
    return [
        f"source: no record of Zenodo is known for {what} zoo={preset}; there are {', '.join(sorted(offered))}; others: download "
        "and unpack it, and give the folder"
    ]


def download_zoo(preset: str, source: str, data: Path) -> Path:
    """The unpacked raw folder of a published zoo, from <data>/zoos/<record>/ or downloaded to there.

    Args:
        preset: its name.
        source: "zenodo", or "zenodo_sparse" for its sparsified twin; with ":FILE" behind, a certain file of the record.
        data: the folder of downloaded data.

    Raises:
        UserError: if the zoo is not on Zenodo, the record has no such file, or it cannot be had.
    """
    if problems := zenodo_problems(preset, source):
        raise UserError(problems[0])
    word, _, wanted = source.partition(":")
    number, name = TWINS[preset] if word == SPARSE else (RECORDS[preset.partition("_")[0]], EXPERIMENTS[preset])
    folder, wanted = data / "zoos" / str(number), wanted or f"{name}.zip"
    unpacked = folder / Path(wanted).stem
    if unpacked.is_dir():
        return unpacked
    try:
        files = _files(number)
        if wanted not in files:
            raise UserError(
                f"source: record {number} of Zenodo has no {wanted}, but {', '.join(sorted(files))}; "
                f"choose the raw zoo among them: source={word}:FILE"
            )
        archive = fetch(f"Zoo {preset}", wanted, *files[wanted], folder)
    except Unavailable as reason:
        raise UserError(
            f"Zoo {preset}: {reason}; get {wanted} from https://doi.org/10.5281/zenodo.{number}, unpack it, and give its "
            "folder: source=DIR"
        ) from reason
    return _unpack(archive, unpacked)


def _files(number: int) -> dict[str, tuple[str, str]]:
    """The files of a record: address and hash, by name."""
    address = f"{ZENODO}/api/records/{number}"
    try:
        response = requests.get(address, timeout=TIMEOUT)
        response.raise_for_status()
        listed = response.json()["files"]
        # The answer's own addresses: a record's number may be that of all its versions.
        return {one["key"]: (one["links"]["self"], one["checksum"]) for one in listed}
    except (requests.RequestException, ValueError, LookupError) as error:
        raise Unavailable(f"{address} cannot be read ({type(error).__name__}; no network?)") from error


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack a zip; the folder is there once all of it is. No file leaves the folder, whatever it is called."""
    part = target.with_name(f"{target.name}.part")
    with locked(target.with_name(f"{target.name}.lock")):
        if target.is_dir():
            return target  # another process was quicker
        shutil.rmtree(part, ignore_errors=True)
        try:
            with zipfile.ZipFile(archive) as packed:
                for member in packed.infolist():
                    if ".." in Path(member.filename).parts or Path(member.filename).is_absolute():
                        raise UserError(f"{archive}: {member.filename} would leave the folder; nothing was unpacked")
                for member in tqdm(packed.infolist(), f"Unpacking {archive.name}", unit="file", disable=None):
                    packed.extract(member, part)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
            raise UserError(
                f"{archive} cannot be unpacked ({error}); choose the raw zoo, a zip (source=zenodo:FILE), or unpack it by other "
                "means and give the folder: source=DIR"
            ) from error
        os.replace(part, target)
    return target
