"""A store that a stranger altered: nothing of it runs, nothing outside of it is touched, and one sentence says what is wrong."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import run
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.files import STALE, write_file
from zoo.base.names import is_command
from zoo.base.text import as_code, escaped
from zoo.config.reading import mistakes, perform, read_config, task_problems
from zoo.store.schema import check_description, parse_json, plain
from zoo.store.writer import finalise

NAME = "digits_seed"
WORDS = [
    "zoo=digits_seed",
    "zoo.models=20",
    "zoo.epochs=2",
    "zoo.block_size=10",
    "dataset.train_size=200",
    "logger=none",
]
LEARNT = [
    "autoencoder.states=[2]", "autoencoder.d_model=204", "autoencoder.heads=2", "autoencoder.feedforward=32",
    "autoencoder.latent=8", "autoencoder.optimizer.batch_size=8", "autoencoder.optimizer.epochs=1", "population.models=4",
    "population.name=drawn",
]  # fmt: skip
TASKS = {
    "zoo": ["task=zoo"],
    "plan": ["task=plan", "zoo.name=next", "zoo.start.zoo=digits_seed"],
    "start": ["task=zoo", "zoo.name=next", "zoo.start.zoo=digits_seed", "zoo.epochs=1"],
    "analysis": ["task=analysis", "analysis.cka_images=10", "analysis.map_states=0", "analysis.probes=[linear]"],
    "hyperrep": ["task=hyperrep", *LEARNT],
    "sample": ["task=sample", "sampler=soup", *LEARNT],
    "sparsify": ["task=sparsify", "sparsify=magnitude", "sparsify.epochs=1", "sparsify.steps=1"],
    "downstream": [
        "task=downstream",
        "downstream=smoothness",
        "downstream.methods={}",
        "downstream.from_epoch=0",
        "downstream.points=2",
        *LEARNT,
    ],
    "report": ["task=report"],
    "raw": ["task=export", "format=raw"],
    "hub": ["task=export", "format=hub"],
    "croissant": ["task=export", "format=croissant"],
    "csv": ["task=export", "format=csv"],
    "dashboard": ["task=dashboard"],
}
MOST_MEMORY = 2**30  # bytes that no altered store makes us ask for


@cache
def composed(*words: str) -> Any:
    """The configuration of some words, which takes longer than most stores do to be refused."""
    return read_config(compose("config", [*WORDS, *words]), run.Config, [*WORDS, *words])


def do(root: Path, *words: str) -> None:
    """A command, in this process."""
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        config = copy.deepcopy(composed(*words))
        config.paths.root, config.overrides = str(root), [f"paths.root={root}", *config.overrides]
        if problems := task_problems(config):
            raise UserError(mistakes(problems), problems)
        perform(config)


def read(path: Path) -> None:
    """Everything that Python reads of a store."""
    zoo = Zoo.open(path)
    problems = zoo.verify()
    assert zoo.models.shape[0] == zoo.n_models
    assert len(zoo.metrics)
    zoo.weights()
    zoo.module(0, 0)
    _ = zoo.identity, zoo.content, zoo.pending, zoo.files(), zoo.at_work(), zoo.redo
    if problems:
        raise UserError(problems[0])


# ------------------------------------------------------------------------------------------------ the stores


def seal(path: Path) -> None:
    """Put all hashes right, as whoever alters a store would."""
    manifest = json.loads((path / "manifest.json").read_text())
    for block in path.glob("weights/*/manifest.json"):
        listed = json.loads(block.read_text())
        for name, entry in listed["files"].items():
            entry.update(entry_of(block.parent / name))
        block.write_text(json.dumps(listed))
    for name, entry in manifest["files"].items():
        if (path / name).is_file():
            entry.update(entry_of(path / name))
    (path / "manifest.json").write_text(json.dumps(manifest))


def entry_of(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def about(key: str, value: Any) -> Callable[[Path, Path], None]:
    """zoo.json with another value at a key such as "arch.name"; `...` takes it out. SENTINEL in texts is the folder outside."""

    def alter(path: Path, sentinel: Path) -> None:
        description = json.loads((path / "zoo.json").read_text())
        *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        place = description
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = json.loads(json.dumps(value).replace("SENTINEL", str(sentinel)))
        (path / "zoo.json").write_text(json.dumps(description))

    return alter


def text(function: Callable[[str], str | bytes]) -> Callable[[Path, Path], None]:
    """zoo.json with another text."""

    def alter(path: Path, sentinel: Path) -> None:
        changed = function((path / "zoo.json").read_text())
        (path / "zoo.json").write_bytes(changed if isinstance(changed, bytes) else changed.encode())

    return alter


def table(name: str, function: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path, Path], None]:
    """A table with other rows."""

    def alter(path: Path, sentinel: Path) -> None:
        function(pd.read_parquet(path / name)).to_parquet(path / name, index=False)

    return alter


def state(function: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path, Path], None]:
    """The last states of the first block with other arrays."""

    def alter(path: Path, sentinel: Path) -> None:
        file = path / "weights/00000-00009/epoch-0002.safetensors"
        save_file(function(load_file(file)), file)

    return alter


def listed(
    function: Callable[[dict[str, Any], Path], None], name: str = "manifest.json"
) -> Callable[[Path, Path], None]:
    """A manifest with other entries."""

    def alter(path: Path, sentinel: Path) -> None:
        manifest = json.loads((path / name).read_text())
        function(manifest, sentinel)
        (path / name).write_text(json.dumps(manifest))

    return alter


def link(name: str, to: str = "kept.txt") -> Callable[[Path, Path], None]:
    """A link in place of a file or folder: to a file outside or, with `to` "", to an equal one outside."""

    def alter(path: Path, sentinel: Path) -> None:
        target = sentinel / to
        if not to:
            target = sentinel / Path(name).name
            shutil.move(path / name, target)
        elif (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)

    return alter


def deep(path: Path, sentinel: Path) -> None:
    layers: Any = ["flatten"]
    for _ in range(300):
        layers = [{"residual": layers, "shortcut": []}]
    about("arch.layers", layers)(path, sentinel)


def pipe(path: Path, sentinel: Path) -> None:
    (path / "models.parquet").unlink()
    os.mkfifo(path / "models.parquet")


def unpacked(path: Path, sentinel: Path) -> None:
    """A small file of many rows."""
    pd.DataFrame({"model_id": np.zeros(3 * 10**7, np.int64)}).to_parquet(path / "models.parquet", index=False)


CODE = '"""\nimport pathlib; pathlib.Path("SENTINEL/ran").touch()\n"""'
LINE = "'; import pathlib; pathlib.Path('SENTINEL/ran').touch() #"
SHELL = "$(touch SENTINEL/ran)`touch SENTINEL/ran`; touch SENTINEL/ran"
SCREEN = "\x1b]0;yours\x07\x1b[2J[bold red]pwned[/]"
MARKUP = "x | <script>alert(1)</script> | `y` [z](javascript:alert(1)) {{ 7 * 7 }} ${oc.env:HOME} $\\frac{1}{2$ [bold]b[/bold]"

REFUSED: dict[str, Callable[[Path, Path], None]] = {
    # code and paths in texts
    "arch.name is code": about("arch.name", CODE),
    "arch.name is a line of code": about("arch.name", LINE),
    "arch.name is a path": about("arch.name", "../../x"),
    "a layer is code": about("arch.layers.0", CODE),
    "a class beside the store": lambda p, s: (about("arch.layers", ...)(p, s), about("arch.module", "evil.Net")(p, s)),
    "a class of Python's": lambda p, s: (about("arch.layers", ...)(p, s), about("arch.module", "os.system")(p, s)),
    "a class of torch's": lambda p, s: (about("arch.layers", ...)(p, s), about("arch.module", "zoo.store.zoo.os.system")(p, s)),
    "name leads out": about("name", "../../x"),
    "name is absolute": about("name", "SENTINEL/x"),
    "name is code": about("name", SHELL),
    "dataset leads out": about("dataset.name", "../x"),
    "start leads out": about("spec", {"kind": "fine_tuned", "start": {"zoo": "../../x", "epoch": 0}}),
    "source leads out": about("spec", {"kind": "sampled", "zoo": {"name": "../x", "identity": "0" * 64}}),
    "about moves the cursor": about("about", SCREEN),
    "license of two lines": about("license", "MIT\n# Yours"),
    "command of two lines": about("command", "python run.py\nrm -rf ~"),
    "engine is code": about("engine.name", SHELL),
    "metric leads out": about("metrics.6", "../x"),
    "tensor is code": about("layout.0.name", LINE),
    # kinds, ranges, sizes
    "epochs: very many": about("epochs", 10**12),
    "epochs: negative": about("epochs", -1),
    "epochs: a text": about("epochs", "2"),
    "epochs: true": about("epochs", True),
    "models: very many": about("models", 10**12),
    "models: one more": about("models", 21),
    "no spec": about("spec", ...),
    "spec is a list": about("spec", []),
    "no fingerprint": about("dataset.fingerprint", ...),
    "batch size is a text": about("protocol.batch_size", "10"),
    "schedule unknown": about("protocol.schedule", "[1"),
    "nested 100,000 deep": text(lambda t: t.replace('"spec":', '"x": ' + "[" * 10**5 + "]" * 10**5 + ', "spec":', 1)),
    "nested 30 deep": about("x", json.loads("[" * 30 + "]" * 30)),
    "NaN": text(lambda t: t.replace('"epochs": 2', '"epochs": NaN', 1)),
    "1e999": text(lambda t: t.replace('"spec":', '"x": 1e999, "spec":', 1)),
    "a key twice": text(lambda t: t.replace('"models": 20', '"models": 20, "models": 20', 1)),
    "no JSON": text(lambda t: t[:-40]),
    "no text": text(lambda t: b"\xff" + t.encode()),
    "half a character": about("about", "\ud800"),
    "a list": text(lambda t: "[]"),
    "layout: a gap": about("layout.1.offset", 10**6),
    "layout: negative": about("layout.0.offset", -1),
    "layout: huge": about("layout.0.shape", [10**6, 10**6]),
    "layout: other shape": about("layout.0.shape", [200]),
    "arch: huge layer": about("arch.layers.0", {"conv": 10**9, "kernel": 5}),
    "arch: huge image": about("arch.image", [3, 10**6, 10**6]),
    "arch: many classes": about("arch.classes", 10**9),
    "arch: deep": deep,
    "arch: many layers": about("arch.layers", ["activation"] * 10**5),
    "metrics: twice": about("metrics.6", "train_acc"),
    "metrics: too few": about("metrics", ["train_loss"]),
    # manifests
    "manifest leads out": listed(lambda m, s: m["files"].update({"../../outside/kept.txt": entry_of(s / "kept.txt")})),
    "manifest is absolute": listed(lambda m, s: m["files"].update({str(s / "kept.txt"): entry_of(s / "kept.txt")})),
    "manifest: negative size": listed(lambda m, s: m["files"]["README.md"].update(bytes=-1)),
    "manifest: empty": listed(lambda m, s: m["files"].clear()),
    "block's manifest leads out": listed(
        lambda m, s: m["files"].update({"../../../../outside/kept.txt": entry_of(s / "kept.txt")}),
        "weights/00000-00009/manifest.json",
    ),
    "block of very many": lambda p, s: (p / "weights/00020-99999999").mkdir(),
    "blocks overlap": lambda p, s: (p / "weights/00005-00012").mkdir(),
    # tables and states
    "models: other split": table("models.parquet", lambda t: t.assign(split="all")),
    "models: shuffled": table("models.parquet", lambda t: t.iloc[::-1]),
    "models: long text": table("models.parquet", lambda t: t.assign(activation="a" * 10**6)),
    "models: interpolation": table("models.parquet", lambda t: t.assign(optimizer="${oc.env:HOME}")),
    "models: code": table("models.parquet", lambda t: t.assign(init="'], task.run=[os.abort")),
    "models: lists": table("models.parquet", lambda t: t.assign(seed=[[1]] * 20)),
    "models: bytes": table("models.parquet", lambda t: t.assign(extra=[b"x"] * 20)),
    "models: fewer": table("models.parquet", lambda t: t.head(3)),
    "models: no lr": table("models.parquet", lambda t: t.drop(columns=["lr"])),
    "models: lr is a text": table("models.parquet", lambda t: t.assign(lr="1e-3")),
    "models: 30 million rows": unpacked,
    "metrics: other columns": table("metrics.parquet", lambda t: t.rename(columns={"test_acc": "x"})),
    "metrics: texts": table("metrics.parquet", lambda t: t.assign(test_acc="1")),
    "metrics: other order": table("metrics.parquet", lambda t: t.iloc[::-1]),
    "weights: float64": state(lambda s: s | {"weights": s["weights"].astype(np.float64)}),
    "weights: other shape": state(lambda s: s | {"weights": np.zeros((10, 5000), np.float32)}),
    "weights: none": state(lambda s: {name: array for name, array in s.items() if name != "weights"} | {"x": s["weights"]}),
    # links and pipes
    "zoo.json is a link": link("zoo.json", ""),
    "models.parquet is a link": link("models.parquet", ""),
    "README.md is a link": link("README.md"),
    "manifest.json is a link": link("manifest.json", ""),
    "lock is a link": link(".lock"),
    "card is a link": link("card", "."),
    "weights is a link": link("weights", ""),
    "a block is a link": link("weights/00000-00009", ""),
    "a state is a link": link("weights/00000-00009/epoch-0001.safetensors", ""),
    "a table is a pipe": pipe,
}  # fmt: skip

# What nobody has to refuse: a text that says what it likes.
HARMLESS: dict[str, Callable[[Path, Path], None]] = {
    "about with tags": about("about", MARKUP),
    "license with tags": about("license", MARKUP),
    "published with tags": about("published", MARKUP),
    "command with tags": about("command", MARKUP),
    "command of a shell": about("command", SHELL),
    "title with tags": about("dataset.title", MARKUP),
    "version with tags": about("versions", {MARKUP: MARKUP}),
    "spec with tags": about("spec.seeds", {"mode": MARKUP}),
    "unknown activation": table("models.parquet", lambda t: t.assign(activation=None)),
    "another name": about("name", "other"),
    "a link of a temporary file": lambda p, s: (p / "README.md.tmp").symlink_to(s / "kept.txt"),
}
STORES = REFUSED | HARMLESS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a zoo."""
    root = tmp_path_factory.mktemp("stores")
    do(root)
    return root


@pytest.fixture
def place(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with root/zoos/digits_seed, and outside/ with what is to stay. A class in the store would be found."""
    shutil.copytree(trained / "zoos", tmp_path / "root/zoos")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept.txt").write_text("mine")
    (tmp_path / "root/zoos/x").mkdir()
    (tmp_path / "root/zoos/x/kept.txt").write_text("mine")
    store = tmp_path / "root/zoos" / NAME
    (store / "evil.py").write_text(
        f"import pathlib, torch\npathlib.Path({str(tmp_path / 'outside/ran')!r}).touch()\nclass Net(torch.nn.Module): pass\n"
    )
    monkeypatch.syspath_prepend(str(store))
    monkeypatch.chdir(store)
    yield tmp_path
    sys.modules.pop("evil", None)


def altered(place: Path, alteration: str) -> Path:
    store, sentinel = place / "root/zoos" / NAME, place / "outside"
    STORES[alteration](store, sentinel)
    if not alteration.startswith(("manifest", "block's")) and not (store / "manifest.json").is_symlink():
        with open(os.devnull):  # a pipe has no bytes
            seal(store)
    return store


def outside(place: Path) -> dict[str, tuple[bytes, int]]:
    """What lies beside the root, and in folders that a name could lead to."""
    folders = [place / "outside", place / "root/zoos/x"]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    files += [file for file in place.iterdir() if file.name not in ("root", "outside")]
    return {str(file): (file.read_bytes() if file.is_file() else b"", file.stat().st_mtime_ns) for file in files}


def judge(function: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What a refusal says; None if there is none. Anything but a sentence is a failure."""
    try:
        function()
        said = None
    except UserError as error:
        said = str(error)
        assert len(said) < 3000
        assert not any(c in said for c in "\x1b\x07\r")
    shown = capsys.readouterr()
    assert "\x1b]" not in shown.out + shown.err
    return said


@pytest.mark.parametrize("alteration", STORES)
def test_an_altered_store_is_refused_in_a_sentence(
    alteration: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read by Python, and by a task each, so that all tasks come by in turn."""
    store = altered(place, alteration)
    (store / "evil.py").rename(place / "root/evil.py")  # which verify would tell
    before, memory = outside(place), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = judge(lambda: read(store), capsys)
    if alteration in REFUSED:
        assert said, "it was read"
    elif alteration not in ("unknown activation", "another name"):
        assert said is None or "is a link" in said or "is no part of the zoo" in said
    names = list(TASKS) if alteration in REFUSED else ["zoo", "plan", "hub", "croissant", "csv", "raw", "report"]
    task = names[list(STORES).index(alteration) % len(names)]
    judge(lambda: do(place / "root", *TASKS[task]), capsys)
    assert outside(place) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEMORY / 1024


# ------------------------------------------------------------------------------------------------ any zoo.json


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([CODE, "../x", 10**12, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, entry in inner for found in paths_of(entry, (*path, key)))]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_description_is_read_or_refused(data: st.DataObject, trained: Path) -> None:
    """One value of zoo.json, or two, become anything at all."""
    description = json.loads((trained / "zoos" / NAME / "zoo.json").read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        *parents, last = data.draw(st.sampled_from([path for path in paths_of(description) if path]))
        place = description
        for key in parents:
            place = place[key]
        place[last] = data.draw(JSON)
    try:
        check_description(parse_json(json.dumps(description).encode()))
    except ValueError:
        return
    zoo = Zoo(trained, description)
    assert zoo.n_parameters >= 0
    assert all(map(escaped, (zoo.name, *zoo.description["metrics"])))
    try:
        _ = zoo.architecture
    except UserError:
        return


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        plain(parse_json(data))


# ------------------------------------------------------------------------------------------------ classes


def test_a_class_is_named_by_whoever_opens_the_store(place: Path) -> None:
    store = place / "root/zoos" / NAME
    changes = {"layers": ..., "module": "tests.populations.Normed"}
    for key, value in changes.items():
        about(f"arch.{key}", value)(store, place)
    seal(store)
    with pytest.raises(UserError, match=r"Zoo.open\(path, module='tests.populations.Normed'\)"):
        _ = Zoo.open(store).architecture
    with pytest.raises(UserError, match="which is none of hyperzoo's"):
        _ = Zoo.open(store, module="tests.zoo.test_store.Normed").architecture
    with pytest.raises(UserError, match="arch=cnn_s has other tensors than layout says"):
        _ = Zoo.open(store, module="tests.populations.Normed").architecture
    assert Zoo.open(store).weights().shape == (20, 3, Zoo.open(store).n_parameters)  # which need no class


# ------------------------------------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("key", ["about", "license", "published", "command", "dataset.title"])
def test_cards_show_texts_as_texts(key: str, place: Path) -> None:
    """A card made of a store of someone who writes tags, in Markdown, for the Hub and as a page."""
    store = place / "root/zoos" / NAME
    (store / "evil.py").unlink()
    about(key, MARKUP)(store, place)
    (store / "manifest.json").unlink()
    finalise(Zoo.open(store))  # the card is written again
    do(place / "root", *TASKS["analysis"])
    do(place / "root", *TASKS["hub"])
    do(place / "root", *TASKS["report"])
    card = (store / "README.md").read_text()
    in_code = f"`` {MARKUP} ``" if key == "command" else ""
    assert "<script>" not in card.replace(in_code, "")
    assert "](javascript" not in card.replace(in_code, "").replace(r"\]", "")
    facts = card[card.index("| | |") :].partition("\n\n")[0].splitlines()
    columns = {row.replace(r"\|", "").count("|") for row in facts}
    assert columns == {3}
    for page in (place / "root/analysis" / NAME / "card.html", place / "root/report.html"):
        assert "<script>alert" not in page.read_text()
    hub = (place / "root/exports" / f"{NAME}_hub/README.md").read_text()
    assert hub.startswith("---\n")
    assert hub.index("\n---\n", 4) < hub.index("# Zoo digits_seed")
    assert Zoo.open(store).verify() == []
    assert MARKUP not in Zoo.open(store).redo


def test_a_command_is_shown_to_be_run_only_if_it_is_one_of_ours() -> None:
    for command in (
        "python run.py zoo=x",
        "python run.py zoo=x 'zoo.grid.lr=[0.1,0.2]'",
        "python run.py +a.b=1 sparsify.epoch=3",
    ):
        assert is_command(command)
    for text in (SHELL, "python run.py; rm -rf ~", "python run.py zoo=x && y", "python run.py zoo=`x`", "python run.py $(x)",
                 "rm -rf ~", "python run.py 'zoo=x", "python run.py task.run=[os.abort]", "python run.py -m zoo=x", None,
                 "python run.py\nrm x", "python run.py hydra.run.dir=x", "python  run.py zoo=x"):  # fmt: skip
        assert not is_command(text)


@given(st.text())
def test_texts_are_escaped_for_markdown(text: str) -> None:
    line = escaped(text)
    assert not set("<>\n\x1b") & set(line)
    assert "|" not in line.replace(r"\\", "").replace(r"\|", "")
    assert "`" not in line.replace(r"\\", "").replace(r"\`", "")
    code = as_code(text)
    fence = len(code) - len(code.lstrip("`"))
    assert "\n" not in code
    assert all(len(run) < fence for run in code[fence:-fence].split(" ") if set(run) == {"`"})


def test_one_damaged_zoo_among_others_stops_no_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = place / "root"
    do(root, *TASKS["analysis"])
    for name, alteration in (("first", "no spec"), ("other", "epochs: very many"), ("third", "models: shuffled")):
        shutil.copytree(root / "zoos" / NAME, root / "zoos" / name)
        REFUSED[alteration](root / "zoos" / name, place)
        seal(root / "zoos" / name)
    (root / "analysis/broken").mkdir()
    (root / "analysis/broken/measures.csv").write_text("a\n1\n")
    (root / "audits").mkdir()
    (root / "audits/x.csv").write_text("verdict\n<script>\n")
    (root / "results/init").mkdir(parents=True)
    pd.DataFrame({"a": [1]}).to_parquet(root / "results/init/x.parquet")
    (root / "results/init/x.json").write_text("{}")
    with pytest.raises(UserError) as told:
        do(root, "task=report")
    sentences = str(told.value).splitlines()
    assert len(sentences) == 7
    expected = (
        "first/zoo.json",
        "other/zoo.json",
        "third/models.parquet",
        "broken/measures.csv",
        "audits/x.csv",
        "init/x.json",
    )
    assert all(any(words in sentence for sentence in sentences) for words in expected)
    page = (root / "report.html").read_text()
    assert "Zoos side by side" in page
    assert "spec is missing" in page
    assert page.count(f"<td>{NAME}</td>") >= 2


# ------------------------------------------------------------------------------------------------ files


def test_a_temporary_file_is_nobodys_link_and_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    (tmp_path / "file.tmp").symlink_to(tmp_path / "kept.txt")
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "kept.txt").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="irectory"):
        write_file(tmp_path / "folder", b"new")
    leftover, young = (tmp_path / f"file.{digit * 16}.tmp" for digit in "01")  # of a killed one, and of one at work
    for file in (leftover, young):
        file.touch()
    os.utime(leftover, (0, os.stat(young).st_mtime - STALE - 1))
    write_file(tmp_path / "file", b"newer")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "file",
        f"file.{'1' * 16}.tmp",
        "file.tmp",
        "folder",
        "kept.txt",
    ]


def test_what_a_kill_leaves_in_a_store_is_removed(place: Path) -> None:
    store = place / "root/zoos" / NAME
    (store / "evil.py").unlink()
    for name in ("README.md", "zoo.json", "manifest.json", "weights/00000-00009/epoch-0001.safetensors"):
        (store / f"{name}.{'a' * 16}.tmp").touch()
        (store / f"{name}.tmp").touch()
    do(place / "root")
    assert not list(store.rglob("*.tmp"))
    assert Zoo.open(store).verify() == []


def test_the_folder_itself_may_be_a_link(place: Path) -> None:
    """A zoo, or the root, on a large disk."""
    store, disk = place / "root/zoos" / NAME, place / "disk"
    (store / "evil.py").unlink()
    shutil.move(store, disk)
    store.symlink_to(disk)
    read(store)
    (place / "there").symlink_to(place / "root")
    do(place / "there", *TASKS["hub"])
    do(place / "there")


@pytest.mark.parametrize("name", ["weights", "card", ".lock", "README.md"])
def test_nothing_is_made_through_a_link(name: str, tmp_path: Path) -> None:
    """Where a zoo is to be made, a stranger has put a link."""
    (tmp_path / "outside").mkdir()
    store = tmp_path / "root/zoos" / NAME
    store.mkdir(parents=True)
    (store / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link"):
        do(tmp_path / "root")
    assert not list((tmp_path / "outside").iterdir())


def test_numbers_keep_their_bytes(trained: Path) -> None:
    """Reading with care reads the same: what pandas reads of the tables by itself."""
    zoo = Zoo.open(trained / "zoos" / NAME)
    for name, table in (("models", zoo.models), ("metrics", zoo.metrics)):
        pd.testing.assert_frame_equal(table, pd.read_parquet(io.BytesIO((zoo.path / f"{name}.parquet").read_bytes())))
