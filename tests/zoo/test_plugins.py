"""A user's own parts: found, or told in one sentence."""

import re

import pytest

from zoo.base.errors import UserError
from zoo.base.plugins import find


def test_what_a_path_names():
    assert find("zoo.base.plugins.find") is find
    assert find("zoo.store.zoo.Zoo.open").__name__ == "open"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def part(:\n", r"SyntaxError: .*line 1\)"),
        ("part = nothing\n", "NameError: name 'nothing' is not defined"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import no_such_package\n", "No module named 'no_such_package'"),
        ("raise SystemExit('no more')\n", "SystemExit: no more"),
        ("other = 1\n", "module '.*' has no attribute 'part'"),
        (None, "No module named"),
    ],
)
def test_a_module_may_fail_in_any_way(tmp_path, monkeypatch, text, said):
    monkeypatch.syspath_prepend(tmp_path)
    name = "mine_" + re.sub(r"\W", "_", str(text))[:20]
    if text is not None:
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(UserError, match=rf"^{name}\.part cannot be imported \({said}"):
        find(f"{name}.part")


def test_what_a_module_of_a_package_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "nets.py").write_text("import no_such_package\n\n\nclass Net:\n    pass\n")
    with pytest.raises(
        UserError, match=r"^my_package\.nets\.Net cannot be imported \(No module named 'no_such_package'\)"
    ):
        find("my_package.nets.Net")
    with pytest.raises(UserError, match=r"no attribute 'nothing'"):
        find("zoo.store.zoo.Zoo.nothing")
