"""Kernels compiled once and kept on the disk, under a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import llvmlite
import numba
from numba.core.registry import cpu_target

from zoo.base.errors import UserError
from zoo.base.files import hash_of

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where compiled kernels are kept: hyperzoo/kernels in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperzoo" / "kernels"


@cache
def compiled(code: str) -> tuple[Callable[..., None], Callable[..., None]]:
    """The functions `train` and `evaluate` of a code: from the disk or, if they are not there or damaged, compiled first.

    Whoever compiles them runs what it has stored, as everybody does later.

    Raises:
        UserError: if the environment forbids numba to compile.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise UserError(
            "NUMBA_DISABLE_JIT is set in the environment, but the loops of engine=fused run only compiled: unset it, or choose "
            "engine=torch (a zoo of the other engine needs another zoo.name)"
        )
    folder = cache_folder() / _name(code)
    if _intact(folder):
        module = _imported(folder, folder.name)
    else:
        log.info("Compiling the training loops of this architecture, once on this machine (about 15 s).")
        try:
            module = _stored(code, folder)
        except OSError as error:
            log.warning(
                "Compiled loops cannot be kept in %s (%s): they are compiled anew each time.", folder.parent, error
            )
            with tempfile.TemporaryDirectory() as elsewhere:
                module = _stored(code, Path(elsewhere) / folder.name)
    return module.train, module.evaluate


def _name(code: str) -> str:
    """The name of the folder of a compiled code, by all that it depends on."""
    here = Path(__file__).parent
    used = [
        code,
        *((here / name).read_text(encoding="utf-8") for name in ("simd.py", "numerics.py", "noise.py")),
        sys.version,
        numba.__version__,
        llvmlite.__version__,
        repr(cpu_target.target_context.codegen().magic_tuple()),  # the processor
    ]
    return f"kernel_{hashlib.sha256(chr(0).join(used).encode()).hexdigest()[:16]}"


def _stored(code: str, folder: Path) -> ModuleType:
    """Compile a code into a folder, which appears when it is whole; the module that lies there then."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
        made = Path(work) / "made"
        made.mkdir()
        (made / "kernel.py").write_text(code, encoding="utf-8")
        _imported(made, folder.name)  # numba keeps what it compiles beside the file
        hashes = {str(file.relative_to(made)): hash_of(file) for file in made.rglob("*") if file.is_file()}
        (made / "hashes.json").write_text(json.dumps(hashes), encoding="utf-8")
        if folder.exists() and not _intact(folder):
            os.replace(folder, Path(work) / "damaged")
        try:
            os.replace(made, folder)
        except OSError:
            if not _intact(folder):  # else another process was first
                raise
    return _imported(folder, folder.name)


def _intact(folder: Path) -> bool:
    """Whether a folder is there, and as it was stored."""
    try:
        hashes = json.loads((folder / "hashes.json").read_bytes())
        return "kernel.py" in hashes and all(hash_of(folder / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _imported(folder: Path, name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, folder / "kernel.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # numba looks it up
    specification.loader.exec_module(module)
    return module
