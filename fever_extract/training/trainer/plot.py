"""Plot the logs of runs as one page of curves (extra ``report``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fever_extract._utils.extras import require
from fever_extract._utils.files import replace_atomically

LOG = "log.jsonl"

_PANELS = ("valid_accuracy", "valid_mean_class_accuracy", "expression_loss", "geometry_loss")


def plot(runs: Sequence[Path], output: Path) -> None:
    """Draw what the runs' logs say of each epoch, one colour a run.

    Args:
        runs: folders that `fever_extract.training.trainer.train.train` wrote.
        output: HTML file; it needs no network.

    Raises:
        FileNotFoundError: if a run has no log.
        ImportError: if plotly is missing.
    """
    require("plotly", extra="training", needed_by="a page of curves")
    from plotly import colors
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=2, subplot_titles=_PANELS)
    palette = colors.qualitative.D3
    for number, run in enumerate(runs):
        lines = read_log(run)
        for index, name in enumerate(_PANELS):
            known = [line for line in lines if name in line]
            figure.add_scatter(
                x=[line["epoch"] for line in known],
                y=[line[name] for line in known],
                name=str(run),
                legendgroup=str(run),
                showlegend=index == 0,
                line_color=palette[number % len(palette)],
                row=index // 2 + 1,
                col=index % 2 + 1,
            )
    with replace_atomically(output) as temporary:
        temporary.write_text(figure.to_html(include_plotlyjs=True), encoding="utf-8")


def read_log(run: Path) -> list[dict[str, Any]]:
    """A line an epoch; of an epoch that was done again after a kill, the last.

    Raises:
        FileNotFoundError: if the run has no log.
    """
    path = run / LOG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give folders that `train` wrote")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return list({line["epoch"]: line for line in lines}.values())
