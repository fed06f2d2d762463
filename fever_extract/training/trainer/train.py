"""Train: one run, from a recipe to a folder of weights."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel

from fever_extract import hub
from fever_extract._utils import progress
from fever_extract.models import checkpoint
from fever_extract.models.network import FeverNet, pick_device
from fever_extract.training.data import augment, read
from fever_extract.training.data.degrade import degrade
from fever_extract.training.data.sets import read_sets
from fever_extract.training.evaluation.evaluate import evaluate_head
from fever_extract.training.recipes.recipe import Recipe
from fever_extract.training.trainer.batches import Batch, open_stream
from fever_extract.training.trainer.objective import Objective
from fever_extract.training.trainer.start import (
    begin,
    blendshapes_of,
    freeze,
    keep_float32_where_faster,
    make_config,
    take_over,
)
from fever_extract.training.trainer.state import (
    append_log,
    halved,
    moving_average,
    parameter_groups,
    read_state,
    write_state,
)
from fever_extract.training.trainer.teachers import soft_targets


def train(
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    device: str | None = None,
    init: str | Path | None = None,
    teachers: Sequence[str | Path] = (),
    compiled: bool = False,
) -> Path:
    """Train, going on from ``output``'s checkpoint if a run was stopped there.

    Args:
        recipe: the run's choices.
        data: folder of the Parquet tables.
        output: folder for checkpoint, log and, at the end, the weights.
        device: torch device; the best there is by default.
        init: weights to begin from, as `Extractor` takes them; random by default.
        teachers: weights to learn from, as `Extractor` takes them.
        compiled: compile the backbone first (`torch.compile`), which needs a C++ compiler and a
            minute or two, and makes each step a quarter to a third shorter.

    Returns:
        ``output``, a folder that `Extractor` loads.

    Raises:
        ValueError: if the checkpoint there belongs to another recipe.
    """
    run = Run(recipe, data, output, device=device, init=init, teachers=teachers, compiled=compiled)
    while run.epoch < recipe.epochs:
        run.train_epoch()
    checkpoint.save(output, run.config, halved(run.kept))
    return output


class Run:
    """The state of a run: network, optimiser, schedule and the epochs that are done.

    Args:
        recipe, data, output, device, init, teachers, compiled: as in `train`.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        output: Path,
        *,
        device: str | None = None,
        init: str | Path | None = None,
        teachers: Sequence[str | Path] = (),
        compiled: bool = False,
    ) -> None:
        self.recipe, self.output, self.device = recipe, output, pick_device(device)
        output.mkdir(parents=True, exist_ok=True)
        first = hub.load(init) if init else None
        masters = [hub.load(name) for name in teachers]
        self.made_from: dict[str, object] = {
            "init": first.sha256 if first else "",
            "teachers": [teacher.sha256 for teacher in masters],
        }
        if not teachers and (recipe.distill_weight or recipe.geometry_teachers):
            raise ValueError(f"{recipe.name} learns from teachers: give --teacher, once for each")
        sets = read_sets(recipe, data, taught=bool(teachers))
        faces = [one.faces for one in sets]
        self.valid = read(data / recipe.labelled, "valid", recipe.labelled_size)
        self.config = make_config(recipe, faces, self.made_from)
        self.streams = []
        for one in sets:
            targets = soft_targets(masters, one.faces, output, self.device)
            self.streams.append(open_stream(one, targets, recipe, self.config.preprocessing))
        self.steps = len(self.streams[0].indices) // recipe.batch_size
        if not self.steps:
            raise ValueError(
                f"{len(faces[0])} labelled faces don't fill one batch of {recipe.batch_size}"
            )
        torch.manual_seed(recipe.seed)
        network = begin(self.config, recipe, faces, data, first)
        if recipe.from_teachers:
            take_over(network, masters)
        if self.device.type == "cpu":
            keep_float32_where_faster(network)
        # Channels last: twice as fast on a CPU.
        self.network = network.to(memory_format=torch.channels_last).to(self.device)
        self.objective = Objective(recipe, network, blendshapes_of(faces)).to(self.device)
        self.average: AveragedModel | None = None
        if recipe.ema:
            self.average = moving_average(self.network, recipe.ema)
        if compiled:  # after the average, which is a copy and stays as it is
            self.network.backbone.compile()
        parameters = [*self.network.parameters(), *self.objective.parameters()]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(parameters, recipe.weight_decay, recipe.peak_lr)
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.peak_lr,
            total_steps=recipe.epochs * self.steps + 1,
            pct_start=recipe.warm_up,
            cycle_momentum=False,
        )
        self.epoch = 0
        self.seconds = 0.0
        self._resume()

    @property
    def kept(self) -> FeverNet:
        """The network that is measured and saved: the moving average, where there is one."""
        kept = self.average.module if self.average else self.network
        assert isinstance(kept, FeverNet)
        return kept

    def train_epoch(self) -> None:
        """One pass over the labelled faces, then the log line and the checkpoint."""
        start = time.monotonic()
        # One seed an epoch: a resumed run draws the very order and augmentation it would have.
        seed = self.recipe.seed * 100_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        for stream in self.streams:
            stream.shuffle(generator)
        totals: dict[str, float] = {}
        self.network.train()
        freeze(self.network, self.recipe.frozen)
        bar = progress.bar(range(self.steps), desc=f"epoch {self.epoch + 1}", leave=False)
        for step in bar:
            losses = self._step(step, generator)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / self.steps
        with torch.autocast(self.device.type, torch.bfloat16):
            valid = evaluate_head(self.kept, self.valid, mirror=True)
        self.epoch += 1
        self.seconds += time.monotonic() - start
        line = {
            **self.made_from,
            "epoch": self.epoch,
            "seconds": round(self.seconds),
            **{name: round(value, 4) for name, value in totals.items()},
            "valid_accuracy": round(valid.accuracy, 4),
            "valid_mean_class_accuracy": round(valid.mean_class_accuracy, 4),
        }
        append_log(self.output, line)
        self._checkpoint()

    def _step(self, step: int, generator: torch.Generator) -> dict[str, float]:
        recipe = self.recipe
        batch = Batch.join([stream.batch(step, generator) for stream in self.streams])
        crops = batch.crops
        if recipe.covered or recipe.poor:
            crops = degrade(crops, recipe.covered, recipe.poor, generator)
        crops = augment.distort(crops, generator)
        batch = dataclasses.replace(batch, crops=crops).to(self.device)
        losses = self.objective(self.network, batch)
        loss = torch.stack([weight * value for weight, value in losses.values()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.network)
        return {f"{name}_loss": value.item() for name, (_, value) in losses.items()}

    def _checkpoint(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "epoch": self.epoch,
            "seconds": self.seconds,
        }
        write_state(self.output, self._identity(), state)

    def _identity(self) -> dict[str, object]:
        return {**dataclasses.asdict(self.recipe), **self.made_from}

    def _resume(self) -> None:
        state = read_state(self.output, self._identity(), self.device)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.epoch, self.seconds = state["epoch"], state["seconds"]
