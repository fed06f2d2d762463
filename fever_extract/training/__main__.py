"""``python -m fever_extract.training``: data to tables; weights trained, measured, adapted."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from fever_extract.cli import add_face_options, face_options
from fever_extract.options import Options
from fever_extract.training.recipe import ADAPT_EPOCHS, STRENGTH, Recipe
from fever_extract.training.sources import KINDS


def main() -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m fever_extract.training", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FEVER_DATA"),
        help="folder of ferplus.parquet and faces.parquet (default: FEVER_DATA)",
    )
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", help="torch device (default: the best there is)")
    train = stages.add_parser("train", parents=[common, device], help="train weights by a recipe")
    train.add_argument("--recipe", default="base", help="recipe file or name (default: base)")
    train.add_argument("--output", type=Path, required=True, help="folder for the run")
    train.add_argument("--init", help="weights to begin from (default: random)")
    train.add_argument(
        "--teacher", action="append", default=[], help="weights to learn from; may be repeated"
    )
    evaluate = stages.add_parser(
        "evaluate", parents=[common, device], help="measure weights on FER+ test"
    )
    evaluate.add_argument("--weights", help="folder or Hub repository (default: the embedded)")
    evaluate.add_argument(
        "--write", action="store_true", help="write the figures into the folder's config and card"
    )
    evaluate.add_argument(
        "--description", type=Path, help="with --write: Markdown for the card, how they were made"
    )
    _add_prepare(stages, device)
    finish = stages.add_parser(
        "finish", parents=[common, device], help="whiten and calibrate trained weights"
    )
    finish.add_argument("weights", type=Path, help="folder of trained weights")
    finish.add_argument("--output", type=Path, required=True, help="folder for the result")
    finish.add_argument(
        "--strength", type=float, default=STRENGTH, help="of the whitening (default: %(default)s)"
    )
    adapt = stages.add_parser(
        "adapt", parents=[device], help="adapt weights to classes of your own"
    )
    adapt.add_argument("folder", type=Path, help="has a folder of photographs for each class")
    adapt.add_argument("--output", type=Path, required=True, help="folder for the new weights")
    adapt.add_argument("--weights", help="to begin from (default: the embedded)")
    adapt.add_argument("--head-only", action="store_true", help="leave the vectors as they are")
    adapt.add_argument(
        "--epochs", type=int, default=ADAPT_EPOCHS, help="of fine-tuning (default: %(default)s)"
    )
    adapt.add_argument("--seed", type=int, default=0, help="(default: 0)")
    add_face_options(adapt)
    arguments = parser.parse_args()
    if arguments.stage in ("train", "finish", "evaluate") and arguments.data is None:
        parser.error("say where the data is, with --data or FEVER_DATA")

    # All import torch, which --help need not wait for.
    if arguments.stage == "adapt":
        from fever_extract.training.adapt import adapt as run_adapt

        run_adapt(
            arguments.folder,
            arguments.output,
            weights=arguments.weights,
            head_only=arguments.head_only,
            epochs=arguments.epochs,
            seed=arguments.seed,
            device=arguments.device,
            options=Options(**face_options(arguments)),
        )
    elif arguments.stage == "prepare":
        from fever_extract.training.prepare import prepare as run_prepare

        run_prepare(
            arguments.kind,
            arguments.sources,
            arguments.output,
            classes=arguments.classes,
            device=arguments.device,
        )
    elif arguments.stage == "finish":
        from fever_extract.training.finish import finish as run_finish

        done = run_finish(
            arguments.weights,
            arguments.data,
            arguments.output,
            strength=arguments.strength,
            device=arguments.device,
        )
        print(json.dumps(dataclasses.asdict(done)))
    elif arguments.stage == "train":
        from fever_extract.training.train import train as run

        recipe = Recipe.read(arguments.recipe)
        run(
            recipe,
            arguments.data,
            arguments.output,
            device=arguments.device,
            init=arguments.init,
            teachers=arguments.teacher,
        )
    else:
        from fever_extract.training.evaluate import evaluate as measure
        from fever_extract.training.evaluate import write_evaluation

        if arguments.write and not (arguments.weights and Path(arguments.weights).is_dir()):
            parser.error("--write needs --weights FOLDER")
        result = measure(arguments.weights, arguments.data, arguments.device)
        print(json.dumps(result, indent=2))
        if arguments.write:
            about = arguments.description and arguments.description.read_text(encoding="utf-8")
            write_evaluation(arguments.weights, result, about)


def _add_prepare(
    stages: argparse._SubParsersAction[argparse.ArgumentParser], device: argparse.ArgumentParser
) -> None:
    prepare = stages.add_parser(
        "prepare", parents=[device], help="make a table of a data set as its owner distributes it"
    )
    prepare.add_argument("kind", choices=KINDS, help="which data set: see docs/data.md")
    prepare.add_argument("sources", nargs="+", type=Path, help="its files and folders")
    prepare.add_argument("--output", type=Path, required=True, help="the table, TABLE.parquet")
    prepare.add_argument(
        "--classes", type=int, choices=(7, 8), help="of AffectNet: 7 without contempt (default: 8)"
    )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, ImportError) as problem:
        sys.exit(f"fever_extract.training: {problem}")
