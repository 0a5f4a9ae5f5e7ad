"""`task=dashboard`: how Weights & Biases shows zoos and samplers, as definitions: a workspace and a report.

They are files, made without a network; with logger=wandb they are saved there, too, and their addresses printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.base.console import console
from zoo.base.errors import UserError
from zoo.base.files import write_file
from zoo.config.sections import Config
from zoo.training.loggers import QUANTILES, wandb_mode

NAME = "hyperzoo"


def write_dashboard(config: Config) -> None:
    """Write <root>/dashboard/workspace.json and report.json.

    Raises:
        UserError: if wandb-workspaces is not installed.
    """
    try:
        from wandb_workspaces import workspaces
        from wandb_workspaces.reports import v2 as reports
    except ImportError:
        raise UserError("task=dashboard needs the extra `dashboard`: pip install 'hyperzoo[dashboard]'") from None
    place: dict[str, Any] = {"entity": config.logger.entity or "", "project": config.logger.project}
    sections = {
        "Zoos while they are trained": [
            _by_zoo(reports, "Test accuracy, mean over models", "zoo/test_acc/mean"),
            _by_zoo(reports, "Test accuracy, lowest twentieth", f"zoo/test_acc/q{round(100 * QUANTILES[0]):02d}"),
            _by_zoo(reports, "Training loss, mean over models", "zoo/train_loss/mean"),
        ],
        "Zoos at their last epoch": [
            reports.CustomChart(
                query={"summaryTable": {"tableKey": "models"}},
                chart_name="wandb/histogram/v0",
                chart_fields={"value": "test_acc"},
                chart_strings={"title": "Test accuracy of models, by zoo"},
            ),
            reports.BarPlot(title="Test accuracy, mean over models", metrics=["zoo/test_acc/mean"], groupby="group"),
        ],
        "Samplers: networks that are fine-tuned": [
            reports.LinePlot(
                title="Test accuracy by epoch, by what networks were at the start",
                x="epoch", y=["zoo/test_acc/mean"], groupby=reports.Config("zoo.start.zoo"), groupby_aggfunc="mean",
                groupby_rangefunc="minmax",
            ),
        ],
    }  # fmt: skip
    workspace = workspaces.Workspace(
        name=NAME, sections=[workspaces.Section(name=n, panels=p, is_open=True) for n, p in sections.items()], **place
    )
    blocks: list[Any] = []
    for name, panels in sections.items():
        blocks += [reports.H1(name), reports.PanelGrid(runsets=[reports.Runset(**place)], panels=panels)]
    report = reports.Report(title=NAME, blocks=blocks, **place)
    folder = Path(config.paths.root) / "dashboard"
    for file, made in (("workspace.json", workspace), ("report.json", report)):
        text = made._to_model().model_dump_json(by_alias=True, indent=1)  # what `save` sends
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / file, text.encode())
    console.print(f"Definitions of a workspace and a report: {folder}", highlight=False, soft_wrap=True)
    if config.logger.name == "wandb" and wandb_mode(config) == "online":
        for made in (workspace, report):
            made.save()
            console.print(f"In W&B: {made.url}", highlight=False, soft_wrap=True)


def _by_zoo(reports: Any, title: str, metric: str) -> Any:
    return reports.LinePlot(title=title, x="epoch", y=[metric], groupby="group", groupby_rangefunc="minmax")
