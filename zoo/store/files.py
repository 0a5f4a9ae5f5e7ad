"""A zoo as files: its blocks, and whether all that is listed is there and whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zoo.base.errors import UserError
from zoo.base.files import known_hash, owner_of
from zoo.base.text import printable
from zoo.store.block import Block
from zoo.store.entries import as_json_bytes, damage_of
from zoo.store.schema import ROOT_FILES
from zoo.store.stored import PROVENANCE, StoredZoo


class ZooFiles(StoredZoo):
    """The files of a zoo. `zoo.store.zoo.Zoo` reads what is in them."""

    def stored_blocks(self) -> list[Block]:
        """The blocks that have a folder, by first model. Raises UserError as `block_ranges`."""
        return [Block(self, *ends) for ends in self.block_ranges()]

    def blocks(self, size: int, within: range | None = None) -> list[Block]:
        """The blocks of the zoo: first those that exist, then new ones of at most `size` models for the rest.

        To train, open each (`with block:`), which checks its files, and commit its `pending` epochs.

        Args:
            size: of new blocks.
            within: only existing blocks that begin in this range of models, and new ones that lie in it; None: all.
        """
        within = range(self.n_models) if within is None else within
        existing = self.stored_blocks()
        new, first = [], within.start
        for gap_end, after in [(block.first, block.last + 1) for block in existing] + [(self.n_models, 0)]:
            stop = min(gap_end, within.stop)
            new += [Block(self, start, min(start + size, stop) - 1) for start in range(first, stop, size)]
            first = max(first, after)
        return [block for block in existing if block.first in within] + new

    @property
    def pending(self) -> int:
        """How many models lack epochs."""
        return self.n_models - sum(len(block.models) for block in self.stored_blocks() if not block.pending)

    def at_work(self) -> list[str]:
        """The processes that are training blocks of this zoo at the moment."""
        owners = [owner_of(file) for file in sorted((self.path / "weights").glob("*.lock"))]
        return [owner for owner in owners if owner]

    @property
    def content(self) -> str:
        """sha256 over the hashes of all files but the card's: it changes with any state, table or description; "" while the
        zoo is unfinished."""
        listed = {
            name: entry for name, entry in self.manifest().items() if name.split("/")[0] not in ("README.md", "card")
        }
        return hashlib.sha256(as_json_bytes(listed)).hexdigest() if listed else ""

    def verify(self) -> list[str]:
        """Hash every file again: a list of sentences, one a problem; empty if the zoo is intact and nothing else lies there."""
        problems = self.damages()
        problems += [f"{file} is a link" for file in sorted(self.path.rglob("*")) if file.is_symlink()]
        try:
            known = {"manifest.json", PROVENANCE, *ROOT_FILES, *self.manifest()}
            blocks = self.stored_blocks()
        except UserError:  # damages has told it
            return list(map(printable, problems))
        for block in blocks:
            try:
                known |= {f"weights/{block.name}/{name}" for name in ["manifest.json", *block.files()]}
            except UserError:
                known |= {file.relative_to(self.path).as_posix() for file in block.path.iterdir()}
        if self.finished:  # while a zoo is being trained, files come and go
            files = {file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()}
            # Names with a dot in front are left by git, by the Hub's client and by desktops.
            hidden = {name for name in files if any(part.startswith(".") for part in name.split("/"))}
            strangers = (name for name in files - known - hidden if not name.endswith(".lock"))
            problems += [f"{self.path / name} is no part of the zoo" for name in sorted(strangers)]
        return list(map(printable, problems))

    def damages(self) -> list[str]:
        """Hash every file again: a sentence for each that is missing, or not as a manifest lists it."""
        found = []
        try:
            damages = {self.path / name: damage_of(self.path / name, entry) for name, entry in self.manifest().items()}
            found += [f"{file} {damage}" for file, damage in damages.items() if damage]
        except UserError as error:
            found.append(str(error))
        try:
            for block in self.stored_blocks():
                found += [problem for problem in block.problems() if problem not in found]
        except UserError as error:
            found.append(str(error))
        return found

    def files(self) -> list[str]:
        """The files of a finished zoo, relative to its folder: those that its manifests list, these themselves, and
        provenance.json, where there is one.

        Raises:
            UserError: if one is missing or damaged.
        """
        listed = self.manifest()
        for block in self.stored_blocks():
            listed |= {f"weights/{block.name}/{name}": entry for name, entry in block.files().items()}
        for name, entry in listed.items():
            if damage := damage_of(self.path / name, entry, known_hash):
                raise UserError(f"{self.path / name} {damage}{self.remedy(damage)}")
        provenance = [PROVENANCE] if (self.path / PROVENANCE).exists() else []
        return ["manifest.json", *listed, *provenance]

    def is_whole(self) -> bool:
        """Whether the zoo is finished, and its tables, and the manifests of its blocks, are as manifest.json lists them."""
        listed = self.manifest()
        kept = {name: entry for name, entry in listed.items() if not name.startswith("card/")}
        return bool(kept) and not any(damage_of(self.path / name, entry) for name, entry in kept.items())

    def _refuse_unlisted(self, blocks: Sequence[Block]) -> None:
        """Raise UserError if a block of a finished zoo is another one than manifest.json lists."""
        listed = self.manifest()
        for block in blocks if listed else ():
            if not block.is_in(listed):
                raise UserError(
                    f"{block.path} is not the block that {self.path / 'manifest.json'} lists: {self.redo} to restore it"
                )
