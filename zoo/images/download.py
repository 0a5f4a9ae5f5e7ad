"""Find the files of an image dataset on this machine, or download them; never trust one without its hash.

A dataset's own folder `<data folder>/<dataset name>/` is looked at first and taken seriously: a file there with the
wrong hash is an error. The other places (`<data folder>/` and the system folders) are shared by several datasets whose
files bear the same names (MNIST and Fashion-MNIST do), so a file there with the wrong hash is passed over.
"""

import gzip
import hashlib
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm

from zoo.base.errors import UserError
from zoo.base.files import locked
from zoo.images.config import FileConfig

log = logging.getLogger(__name__)
RETRIES = 2  # after the first attempt; pooch waits 1 s, then 2 s
TIMEOUT = 60.0  # seconds without an answer
CHUNK = 1 << 16  # bytes; what is lost at most when a connection breaks
GZIP_MAGIC = b"\x1f\x8b"


def find_files(
    dataset: str, files: Mapping[str, FileConfig], data_folder: Path, system_folders: Sequence[Path]
) -> dict[str, Path]:
    """Give the path of every file of a dataset, downloading those that are not on this machine.

    Each file found is checked against its pinned hash. Downloads go to `<data_folder>/<dataset>/` and appear there
    only once complete and checked. No existing file is changed or deleted.

    Args:
        dataset: name of the dataset, which is also the name of its own folder.
        files: the files by the key under which the reader asks for them.
        data_folder: where the user keeps (and downloads go to) image data.
        system_folders: further folders to look into.

    Raises:
        UserError: a file is missing and cannot be had, or is not the published one.
    """
    own_folder = data_folder / dataset
    shared_folders = [data_folder, *system_folders]
    found: dict[str, Path] = {}
    missing: dict[str, FileConfig] = {}
    passed_over: list[str] = []
    for key, file in files.items():
        path, complaints = find_local(file, own_folder, shared_folders)
        passed_over += complaints
        if path is None:
            missing[key] = file
        else:
            found[key] = path

    for key, file in list(missing.items()):
        try:
            found[key] = _download(dataset, key, file, own_folder)
        except Unavailable as reason:
            names = ", ".join(missing_file.name for missing_file in missing.values())
            looked = ", ".join(str(folder) for folder in (own_folder, *shared_folders))
            # One will do: the files of another dataset, say, all differ in the same way.
            others = f" and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
            passed = f"; passed over {passed_over[0]}{others}" if passed_over else ""
            urls = [missing_file.url or f"its source ({missing_file.name})" for missing_file in missing.values()]
            raise UserError(
                f"Dataset {dataset}: missing {names}; looked in {looked}{passed}; {reason}; "
                f"get {' and '.join(urls)} and put {'it' if len(missing) == 1 else 'them'} into {own_folder}."
            ) from reason
        del missing[key]
    return {key: found[key] for key in files}


def find_local(file: FileConfig, own_folder: Path, shared_folders: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """Look for a file without downloading it.

    Returns:
        The first path whose hash is right (or None), and one complaint for each file passed over in a shared folder.

    Raises:
        UserError: the dataset's own folder holds a file of that name with the wrong hash.
    """
    complaints: list[str] = []
    for folder in (own_folder, *shared_folders):
        for path in (folder / name for name in _local_names(file)):
            if not path.is_file():
                continue
            complaint = _complaint(path, file)
            if complaint is None:
                return path, complaints
            if folder == own_folder:
                remedy = "run the same command again to download it" if file.url else "put the right one in its place"
                raise UserError(f"{complaint}; move it away or delete it and {remedy}.")
            log.debug("Passed over %s.", complaint)
            complaints.append(complaint)
    return None, complaints


def _local_names(file: FileConfig) -> list[str]:
    """Names under which a file may lie here: as published, and without `.gz` where its hash could be checked then."""
    is_gzip = file.name.endswith(".gz") and not file.name.endswith(".tar.gz")
    checkable = file.content_md5 is not None or file.md5 is None
    return [file.name, file.name.removesuffix(".gz")] if is_gzip and checkable else [file.name]


def _complaint(path: Path, file: FileConfig) -> str | None:
    """Say in half a sentence why a file is not the published one; None if it is, or if no hash is pinned."""
    try:
        if file.content_md5 is not None:
            # The content decides, not the archive: Debian, for one, compresses the Fashion-MNIST files afresh.
            what, expected, got = "decompressed content", file.content_md5, _content_md5(path)
        elif file.md5 is not None:
            what, expected, got = "file", file.md5, pooch.file_hash(str(path), alg="md5")
        else:
            return None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        wanted = f"expected decompressed content with md5 {file.content_md5}, got none"
        return f"{path}: truncated or damaged gzip ({error}; {wanted})"
    if got == expected.lower():
        return None
    return f"{path}: not the published file (md5 of the {what}: expected {expected}, got {got})"


def _content_md5(path: Path) -> str:
    """md5 of a file's content, decompressed if it is gzip (whatever its name)."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as plain:
        is_gzip = plain.read(2) == GZIP_MAGIC
    with gzip.open(path) if is_gzip else path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Unavailable(Exception):
    """Why a file could not be downloaded, in half a sentence."""


def _download(dataset: str, key: str, file: FileConfig, folder: Path) -> Path:
    """Download one file of a dataset into a folder; raise Unavailable if that fails, UserError if it is the wrong file."""
    config_key = f"dataset.files.{key}"
    if file.url is None:
        raise Unavailable(f"no address to download it from is set ({config_key}.url)")
    if file.md5 is None:
        raise Unavailable(f"it is not downloaded because no hash is pinned ({config_key}.md5)")
    path = fetch(f"Dataset {dataset}", file.name, file.url, f"md5:{file.md5}", folder)
    complaint = _complaint(path, file)
    if complaint is not None:
        raise UserError(f"{complaint}; {config_key}.md5 and {config_key}.content_md5 contradict each other.")
    return path


def fetch(what: str, name: str, url: str, digest: str, folder: Path) -> Path:
    """Download a file into a folder, where it appears once it is complete and its hash is right.

    What was cut off, or whose process was killed, goes on from where it ended, from `<name>.part`.

    Args:
        what: begins the sentences that tell what went wrong.
        name: of the file.
        url: where it is.
        digest: "md5:…" or "sha256:…".
        folder: made if need be.

    Raises:
        Unavailable: if that fails.
        UserError: if it is the wrong file, or cannot be written.
    """
    # pooch downloads to a temporary file, checks the hash, then renames. allow_updates=False: never replace a file that is
    # there; who waited for the lock finds the file that the other one downloaded.
    fetcher = pooch.create(
        path=folder,
        base_url="",
        registry={name: digest},
        urls={name: url},
        retry_if_failed=RETRIES,
        allow_updates=False,
    )
    part = folder / f"{name}.part"

    def download(url: str, output_file: str, fetcher: pooch.Pooch) -> None:
        _continue_download(url, part)
        os.replace(part, output_file)  # a wrong file does not stay as a part, so that the next attempt begins anew

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{name}.lock"):
            return Path(fetcher.fetch(name, downloader=download))
    except requests.HTTPError as error:  # its message is "404 Client Error: Not Found for url: …"
        raise Unavailable(f"{url} answered {str(error).partition(' for url')[0]}") from error
    except requests.RequestException as error:
        raise Unavailable(
            f"downloading from {urlsplit(url).netloc} failed ({type(error).__name__}; no network?)"
        ) from error
    except ValueError as error:  # pooch's word for a wrong hash: its first sentence holds both
        raise UserError(
            f"{what}: {url} does not give the published file ({str(error).partition('. ')[0]}); "
            f"nothing was kept: try again later, or put the right file into {folder}."
        ) from error
    except OSError as error:
        raise UserError(f"{what}: cannot write {folder / name} ({error}); see paths.data.") from error


def _continue_download(url: str, part: Path) -> None:
    """Append to a file what it lacks of what an address gives; all of it, from a server that cannot give parts."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.range_not_satisfiable:
            return  # there is no more: the part is whole, or its hash will be wrong
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        total = have + int(response.headers.get("Content-Length", 0)) or None
        with (
            open(part, "ab" if have else "wb") as out,
            tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None) as bar,
        ):
            response.raw.headers.pop("Content-Encoding", None)  # of a .gz, from some servers: keep it as published
            for chunk in response.iter_content(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
