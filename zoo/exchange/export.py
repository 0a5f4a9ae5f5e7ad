"""`task=export format=…`: a finished zoo the way others want it, in <root>/exports/<zoo>_<format>/.

raw         the layout of the published zoos: their loaders read it, and so does task=import
hub         a folder for the Hugging Face Hub: the store itself, its card with the header that the Hub wants
croissant   the store with croissant.json, which says what is in its tables (MLCommons Croissant 1.1)
csv         models.csv, metrics.csv and the weights, a file an epoch
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.base.console import console, tracked
from zoo.base.errors import UserError
from zoo.base.files import hash_of, locked, read_file, write_file, writing
from zoo.base.names import is_command
from zoo.config.sections import Config
from zoo.exchange.raw_states import published_names
from zoo.exchange.raw_writing import write_trial
from zoo.store.zoo import Zoo
from zoo.training.opening import open_zoo

CSV_PARAMETERS = 100_000  # a row of weights is text
NEEDS = {"hub": "huggingface_hub", "croissant": "mlcroissant"}
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}  # the Hub's words


def export_problems(config: Config) -> list[str]:
    """What forbids task=export, a sentence each."""
    needed = NEEDS.get(config.format)
    if needed and find_spec(needed) is None:
        return [f"format: {config.format} needs the extra `exchange`; pip install 'hyperzoo[exchange]'"]
    return []


def export_zoo(config: Config) -> None:
    """Export the zoo of a config. What is there under the same name is replaced at once, when all is written.

    Raises:
        UserError: if there is no such zoo, it is unfinished, or the format cannot hold it.
    """
    zoo = open_zoo(config)
    target = Path(config.paths.root) / "exports" / f"{config.zoo.name}_{config.format}"
    part, old = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.old")
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock"), f"{target} is being written by {{owner}}: wait for it"):
        for path in (target, part, old):
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise UserError(f"{path} is in the way: it is no folder; move it away")
        if old.exists() and not target.exists():  # a kill came between the two renames below
            os.replace(old, target)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with writing(part):
            told = FORMATS[config.format](zoo, part)
        if not (part / "README.md").exists():  # the card: what these files are, and their licence
            (part / "README.md").write_bytes(read_file(zoo.path / "README.md"))
        _replace_folder(target, part, old)
    console.print(f"Exported to {target}\n{told.format(folder=target)}", highlight=False, soft_wrap=True)


def _replace_folder(folder: Path, new: Path, old: Path) -> None:
    """Put `new` in place of a folder, which is called `old` meanwhile and removed when the new one is there."""
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ raw and csv


def export_raw(zoo: Zoo, folder: Path) -> str:
    """The layout of the published zoos."""
    arch = zoo.architecture
    published_names(arch, 0.0)  # says so if it cannot be
    models = zoo.models
    metrics = zoo.metrics.sort_values(["model_id", "epoch"]).set_index("model_id")
    spec = {key: zoo.description.get(key) for key in ("name", "spec", "protocol", "dataset")}
    (folder / "config.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
    for model in tracked(range(zoo.n_models), "exporting", "models"):
        write_trial(folder, zoo, arch, models.iloc[model], metrics)
    command = zoo.description.get("command")
    words = shlex.split(command) if is_command(command) else []
    preset = next((word for word in words if re.fullmatch(r"zoo=\w+", word)), "zoo=PRESET")
    return f"Read it back with: python run.py task=import {preset} zoo.name=NAME source={{folder}}"


def export_csv(zoo: Zoo, folder: Path) -> str:
    """Tables as text: a row a model, a row a state, and for each epoch a row of weights a model."""
    arch = zoo.architecture
    if arch.n_buffers or arch.n_parameters > CSV_PARAMETERS:
        raise UserError(
            f"format: csv is for models of at most {CSV_PARAMETERS:,} parameters and without buffers, but arch={arch.name} has "
            f"{arch.n_parameters:,} and {arch.n_buffers:,}; format=hub holds any"
        )
    zoo.models.to_csv(folder / "models.csv", index=False)
    zoo.metrics.to_csv(folder / "metrics.csv", index=False)
    names = [
        f"{slot['name']}[{','.join(map(str, place))}]" for slot in zoo.layout for place in np.ndindex(*slot["shape"])
    ]
    for epoch in tracked(zoo.epochs, "exporting", "epochs"):
        table = pd.DataFrame(zoo.weights(epochs=[epoch])[:, 0], columns=names)
        table.insert(0, "model_id", np.arange(zoo.n_models))
        table.to_csv(folder / f"weights-{epoch:04d}.csv", index=False)
    return "Each row of weights-*.csv is a model; columns are named after PyTorch's tensors"


# ------------------------------------------------------------------------------------------------ the store itself


def export_hub(zoo: Zoo, folder: Path) -> str:
    """The store, its card with the Hub's header: metadata, and which tables its viewer shows."""
    from huggingface_hub import DatasetCard, DatasetCardData

    _copy_store(zoo, folder)
    data = DatasetCardData(
        license=(zoo.description.get("license") or "unknown").lower(),
        pretty_name=f"Model zoo {zoo.name}",
        size_categories=next((word for most, word in SIZES.items() if len(zoo.metrics) < most), "n>1M"),
        tags=["model-zoo", "weight-space-learning", "neural-network-weights", zoo.description["dataset"]["name"]],
        configs=[
            {"config_name": name, "data_files": f"{name}.parquet", **({"default": True} if name == "models" else {})}
            for name in ("models", "metrics")
        ],
    )
    text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    card = DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
    _put(folder, "README.md", str(card).encode())
    return "Put it there with: hf upload OWNER/NAME {folder} . --repo-type=dataset"


def export_croissant(zoo: Zoo, folder: Path) -> str:
    """The store and croissant.json: files with their hashes, and the columns of the tables."""
    _copy_store(zoo, folder)
    _put(folder, "croissant.json", json.dumps(croissant(zoo, folder).to_json(), indent=1, default=str).encode())
    return "Read its tables with: mlcroissant.Dataset(jsonld='{folder}/croissant.json').records('models')"


def croissant(zoo: Zoo, folder: Path) -> Any:
    """The metadata of a zoo whose files lie in a folder, as `mlcroissant.Metadata`."""
    import mlcroissant as mlc

    about = zoo.description.get("about", "")
    files, records = [], []
    for name, table in (("models", zoo.models), ("metrics", zoo.metrics)):
        file = f"{name}.parquet"
        files.append(
            mlc.FileObject(
                id=file, name=file, content_url=file, encoding_formats=["application/x-parquet"],
                sha256=hash_of(folder / file), content_size=f"{(folder / file).stat().st_size} B",
            )
        )  # fmt: skip
        fields = [
            mlc.Field(
                id=f"{name}/{column}", name=column, data_types=[_croissant_type(table[column])],
                source=mlc.Source(file_object=file, extract=mlc.Extract(column=column)),
            )
            for column in table.columns
        ]  # fmt: skip
        records.append(mlc.RecordSet(id=name, name=name, fields=fields))
    states = mlc.FileSet(
        id="states", name="states", encoding_formats=["application/octet-stream"], includes=["weights/*/*.safetensors"],
        description=f"Weights, {zoo.n_parameters} a model, a file an epoch of a block of models; docs/FORMAT.md",
    )  # fmt: skip
    return mlc.Metadata(
        name=zoo.name,
        description=f"{zoo.n_models} neural networks, each at epochs 0 to {zoo.epochs[-1]} of its training. {about}".strip(),
        license=[zoo.description.get("license") or "unknown"],
        version="1.0.0",
        keywords=["model zoo", "weight space learning"],
        distribution=[*files, states],
        record_sets=records,
    )


def _croissant_type(column: pd.Series) -> Any:
    import mlcroissant as mlc

    if pd.api.types.is_integer_dtype(column):
        return mlc.DataType.INTEGER
    return mlc.DataType.FLOAT if pd.api.types.is_float_dtype(column) else mlc.DataType.TEXT


def _copy_store(zoo: Zoo, folder: Path) -> None:
    """All files of the zoo: states as hard links, where the file system has them, because nobody edits
    them; cards and tables as copies, because people do."""
    for name in zoo.files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (name.endswith(".safetensors") and _linked(zoo.path / name, folder / name)):
            shutil.copy2(zoo.path / name, folder / name)


def _linked(file: Path, name: Path) -> bool:
    """Give a file another name, if the file system can."""
    try:
        os.link(file, name)
    except OSError:
        return False
    return True


def _put(folder: Path, name: str, data: bytes) -> None:
    """Put a file into a copied store, in place of the one there if there is one, and enter it in the manifest."""
    write_file(folder / name, data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"bytes": len(data), "sha256": hash_of(folder / name)}
    write_file(folder / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())


FORMATS: dict[str, Callable[[Zoo, Path], str]] = {
    "raw": export_raw, "hub": export_hub, "croissant": export_croissant, "csv": export_csv,
}  # fmt: skip
