"""``python -m fever_extract.training``: prepare, render, train, evaluate, average and adapt.

Each stage is a command of its own, in the order of the work: prepare, train, plot, average, finish,
calibrate, synthetic (render faces), general (several sets and tasks at once), evaluate; and adapt,
for weights that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from fever_extract._utils import terminal
from fever_extract.cli.commands import add_face_options, face_options
from fever_extract.options import Options
from fever_extract.training.data.readers import KINDS
from fever_extract.training.general import command as general
from fever_extract.training.recipes.recipe import ADAPT_EPOCHS, REST, SHARE, Recipe
from fever_extract.training.synthetic import command as synthetic


def main() -> None:
    """Parse the command line and run one stage."""
    terminal.prepare()
    parser = argparse.ArgumentParser(prog="python -m fever_extract.training", description=__doc__)
    stages = parser.add_subparsers(required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FEVER_DATA"),
        help="folder of ferplus.parquet and faces.parquet (default: FEVER_DATA)",
    )
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", help="torch device (default: the best there is)")

    prepare = stages.add_parser(
        "prepare", parents=[device], help="make a table of a data set as its owner distributes it"
    )
    prepare.add_argument("kind", choices=KINDS, help="which data set: see docs/data.md")
    prepare.add_argument("sources", nargs="+", type=Path, help="its files and folders")
    prepare.add_argument("--output", type=Path, required=True, help="the table, TABLE.parquet")
    prepare.add_argument(
        "--classes", type=int, choices=(7, 8), help="of AffectNet: 7 without contempt (default: 8)"
    )
    prepare.set_defaults(run=_prepare)

    train = stages.add_parser("train", parents=[data, device], help="train weights by a recipe")
    train.add_argument("--recipe", default="base", help="recipe file or name (default: base)")
    train.add_argument("--output", type=Path, required=True, help="folder for the run")
    train.add_argument("--init", help="weights to begin from (default: random)")
    train.add_argument(
        "--teacher", action="append", default=[], help="weights to learn from; may be repeated"
    )
    train.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first: shorter steps; needs a C++ compiler",
    )
    train.set_defaults(run=_train)

    plot = stages.add_parser("plot", help="draw the logs of runs")
    plot.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    plot.add_argument("--output", type=Path, default=Path("runs.html"), help="HTML file")
    plot.set_defaults(run=_plot)

    average = stages.add_parser(
        "average", help="mix the weights of a run with those that it began from"
    )
    average.add_argument("first", type=Path, help="folder of the weights it began from")
    average.add_argument("second", type=Path, help="folder of the run's weights")
    average.add_argument("--output", type=Path, required=True, help="folder for the result")
    average.add_argument(
        "--share", type=float, default=SHARE, help="of the second (default: %(default)s)"
    )
    average.set_defaults(run=_average)

    finish = stages.add_parser(
        "finish",
        parents=[data, device],
        help="suppress variance that labels don't explain in the embeddings, and calibrate",
    )
    finish.add_argument("weights", type=Path, help="folder of trained weights")
    finish.add_argument("--output", type=Path, required=True, help="folder for the result")
    finish.add_argument(
        "--rest",
        type=float,
        default=REST,
        help="share that is kept of what labels don't explain (default: %(default)s)",
    )
    finish.set_defaults(run=_finish)

    calibrate = stages.add_parser(
        "calibrate",
        parents=[data, device],
        help="calibrate an expression head of either prior, such as that of averaged weights",
    )
    calibrate.add_argument("weights", type=Path, help="folder of trained weights")
    calibrate.add_argument("--output", type=Path, required=True, help="folder for the result")
    calibrate.set_defaults(run=_calibrate)

    synthetic.add(stages)
    general.add(stages, [data, device])
    _add_evaluate(stages, [data, device])

    _add_adapt(stages, [device])

    arguments = parser.parse_args()
    if getattr(arguments, "data", "") is None:
        parser.error("say where the data is, with --data or FEVER_DATA")
    arguments.run(arguments)


def _add_evaluate(
    stages: argparse._SubParsersAction[argparse.ArgumentParser],
    parents: list[argparse.ArgumentParser],
) -> None:
    evaluate = stages.add_parser(
        "evaluate", parents=parents, help="measure weights, and peers, on FER+"
    )
    evaluate.add_argument("--weights", help="folder or Hub repository (default: the embedded)")
    evaluate.add_argument(
        "--split", choices=("test", "valid"), default="test", help="(default: %(default)s)"
    )
    evaluate.add_argument(
        "--transfer",
        nargs="*",
        type=Path,
        metavar="TABLE",
        help="measure instead how embeddings carry over to these labelled tables, which training "
        "never saw (default: those among the data)",
    )
    evaluate.add_argument(
        "--no-peers",
        action="store_true",
        help="with --transfer: the network alone, which is faster",
    )
    evaluate.add_argument(
        "--limit", type=int, metavar="N", help="of that many random faces, for a quick look"
    )
    evaluate.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the figures there, and show the card's tables",
    )
    evaluate.add_argument(
        "--write", action="store_true", help="write the figures into the folder's config and card"
    )
    evaluate.add_argument(
        "--description", type=Path, help="with --write: Markdown for the card, how they were made"
    )
    evaluate.set_defaults(run=_evaluate)


def _add_adapt(
    stages: argparse._SubParsersAction[argparse.ArgumentParser],
    parents: list[argparse.ArgumentParser],
) -> None:
    adapt = stages.add_parser("adapt", parents=parents, help="adapt weights to classes of your own")
    adapt.add_argument("folder", type=Path, help="has a folder of photographs for each class")
    adapt.add_argument("--output", type=Path, required=True, help="folder for the new weights")
    adapt.add_argument("--weights", help="to begin from (default: the embedded)")
    adapt.add_argument("--head-only", action="store_true", help="leave the embeddings as they are")
    adapt.add_argument(
        "--epochs", type=int, default=ADAPT_EPOCHS, help="of fine-tuning (default: %(default)s)"
    )
    adapt.add_argument("--seed", type=int, default=0, help="(default: 0)")
    add_face_options(adapt)
    adapt.set_defaults(run=_adapt)


# All that follow import torch, which --help need not wait for.


def _prepare(arguments: argparse.Namespace) -> None:
    from fever_extract.training.data.prepare import prepare

    prepare(
        arguments.kind,
        arguments.sources,
        arguments.output,
        classes=arguments.classes,
        device=arguments.device,
    )


def _train(arguments: argparse.Namespace) -> None:
    from fever_extract.training.trainer.train import train

    train(
        Recipe.read(arguments.recipe, taught=bool(arguments.teacher)),
        arguments.data,
        arguments.output,
        device=arguments.device,
        init=arguments.init,
        teachers=arguments.teacher,
        compiled=arguments.compile,
    )


def _plot(arguments: argparse.Namespace) -> None:
    from fever_extract.training.trainer.plot import plot

    plot(arguments.runs, arguments.output)


def _average(arguments: argparse.Namespace) -> None:
    from fever_extract.training.trainer.average import average

    average(arguments.first, arguments.second, arguments.output, share=arguments.share)


def _finish(arguments: argparse.Namespace) -> None:
    from fever_extract.training.trainer.finish import finish

    done = finish(
        arguments.weights,
        arguments.data,
        arguments.output,
        rest=arguments.rest,
        device=arguments.device,
    )
    print(json.dumps(dataclasses.asdict(done)))


def _calibrate(arguments: argparse.Namespace) -> None:
    from fever_extract.training.trainer.calibrate import calibrate

    done = calibrate(arguments.weights, arguments.data, arguments.output, device=arguments.device)
    print(json.dumps(dataclasses.asdict(done)))


def _evaluate(arguments: argparse.Namespace) -> None:
    from fever_extract.hub import card_transfer
    from fever_extract.hub.card_tables import measured
    from fever_extract.training.evaluation.evaluate import evaluate, write_evaluation
    from fever_extract.training.evaluation.transfer import evaluate_transfer

    if arguments.write and not (arguments.weights and Path(arguments.weights).is_dir()):
        raise ValueError("--write needs --weights FOLDER")
    if arguments.write and arguments.limit is not None:
        raise ValueError("a card is about all faces: --write goes without --limit")
    if arguments.no_peers and arguments.transfer is None:
        raise ValueError("--no-peers goes with --transfer")
    if arguments.transfer is None:
        result = evaluate(
            arguments.weights, arguments.data, arguments.device, arguments.split, arguments.limit
        )
    else:
        result = evaluate_transfer(
            arguments.weights,
            arguments.data,
            arguments.transfer,
            device=arguments.device,
            limit=arguments.limit,
            peers=not arguments.no_peers,
        )
    text = json.dumps(result, indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    if arguments.transfer is not None:
        print(card_transfer.summary(result), card_transfer.details(result), sep="\n\n")
    else:
        print(measured(result) if arguments.json else text)
    if arguments.write:
        about = arguments.description and arguments.description.read_text(encoding="utf-8")
        name = "evaluation" if arguments.transfer is None else "transfer"
        write_evaluation(arguments.weights, result, about, name)


def _adapt(arguments: argparse.Namespace) -> None:
    from fever_extract.training.adapt import adapt

    adapt(
        arguments.folder,
        arguments.output,
        weights=arguments.weights,
        head_only=arguments.head_only,
        epochs=arguments.epochs,
        seed=arguments.seed,
        device=arguments.device,
        options=Options(**face_options(arguments)),
    )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, ImportError) as problem:
        sys.exit(f"fever_extract.training: {problem}")
