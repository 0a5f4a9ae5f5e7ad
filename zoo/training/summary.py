"""What is printed of a finished zoo."""

from __future__ import annotations

from rich.table import Table

from zoo.base.console import console
from zoo.store.zoo import Zoo


def print_summary(zoo: Zoo) -> None:
    """A table of what the zoo holds."""
    models, metrics = zoo.models, zoo.metrics
    last = metrics[metrics["epoch"] == zoo.epochs[-1]]
    counts = models["status"].value_counts()
    partial = f", {counts['partial']} partial" if "partial" in counts else ""
    table = Table(title=f"Zoo {zoo.name}", show_header=False, title_justify="left")
    splits = ", ".join(f"{(models['split'] == split).sum()} {split}" for split in ("train", "val", "test"))
    table.add_row("models", f"{len(models)} ({splits}), {counts.get('diverged', 0)} diverged{partial}")
    if "start" in zoo.description["spec"]:
        before = 100 * metrics[metrics["epoch"] == 0]["test_acc"].dropna()
        table.add_row(
            "start",
            f"{zoo.description['spec']['start']['zoo']}, test accuracy {before.mean():.1f} ± {before.std(ddof=0):.1f} %",
        )
    table.add_row("states", f"{len(metrics)} (epochs 0 to {zoo.epochs[-1]}), {zoo.n_parameters} parameters each")
    for name, title in (("train_acc", "train"), ("val_acc", "validation"), ("test_acc", "test")):
        values = 100 * last[name].dropna()
        if len(values):
            spread = f"{values.mean():.1f} ± {values.std(ddof=0):.1f} % (lowest {values.min():.1f}, highest {values.max():.1f})"
            table.add_row(f"{title} accuracy", f"{spread}, n = {len(values)}")
    if "sparsity" in last:
        values = 100 * last["sparsity"].dropna()
        table.add_row("sparsity", f"{values.mean():.1f} ± {values.std(ddof=0):.1f} % of the weights, n = {len(values)}")
    console.print(table, highlight=False)
    console.print(f'Open it with: import hyperzoo as hz; zoo = hz.open("{zoo.path}")', highlight=False, soft_wrap=True)
