"""The run: steps, moving average, schedule, checkpoint, log; and at its end the weights.

The learning rate is constant but for a short warm-up, and falls linearly to zero over the last
share of the run (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395). So where the end is may
be said late: a run that goes on may be given other steps, or minutes, than it began with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from fever_extract import hub
from fever_extract._utils.files import replace_atomically
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.network import FeverNet, pick_device
from fever_extract.training.data import augment
from fever_extract.training.evaluation.accuracy import Accuracy
from fever_extract.training.general.batches import Batches, as_prior, shares, step_seed
from fever_extract.training.general.release import DATA, Release, answers, release
from fever_extract.training.general.sources import read_sources
from fever_extract.training.general.start import begin, make_config, words
from fever_extract.training.recipes.general import GeneralRecipe
from fever_extract.training.trainer.start import freeze, keep_float32_where_faster
from fever_extract.training.trainer.state import (
    append_log,
    moving_average,
    parameter_groups,
    read_state,
    write_state,
)

if TYPE_CHECKING:
    import numpy.typing as npt

_LARGEST_GRADIENT = 5.0  # norm to which a step's gradients are clipped


def train_general(
    recipe: GeneralRecipe,
    data: Path,
    output: Path,
    *,
    init: str | Path,
    steps: int | None = None,
    minutes: float | None = None,
    device: str | None = None,
) -> Release:
    """Train, going on from ``output``'s checkpoint if a run was stopped there, and release.

    Args:
        recipe: the run's choices.
        data: folder of the Parquet tables.
        output: folder for crops, checkpoint, log and, at the end, the weights.
        init: weights to begin from, as `Extractor` takes them.
        steps: where the run ends; the recipe's by default. If it is there already, what there is
            is released.
        minutes: end it after so much time instead: that of this call and of what earlier calls
            brought to a checkpoint, cutting crops included; the release comes after.
        device: torch device; the best there is by default.

    Returns:
        What the release did; ``output`` is then a folder that `Extractor` loads.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if the checkpoint there belongs to another recipe or init, or both steps and
            minutes are given.
        WeightsError: if ``init`` can't be begun from.
    """
    if steps is not None and minutes is not None:
        raise ValueError("give --steps or --minutes, not both")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"--minutes must be more than 0, not {minutes}")
    run = Run(recipe, data, output, init=init, device=device)
    run.train(recipe.steps if steps is None else steps, minutes)
    metadata = {
        "recipe": dataclasses.asdict(recipe),
        **run.made_from,
        "steps": run.step,
        "seconds": round(run.seconds),
        "data": {name: what for name, what in DATA.items() if getattr(recipe, name, True)},
    }
    return release(run.kept, run.sources, output, metadata)


class Run:
    """The state of a run: network, optimiser and the steps that are done.

    Args:
        recipe, data, output, init, device: as in `train_general`.
    """

    def __init__(
        self,
        recipe: GeneralRecipe,
        data: Path,
        output: Path,
        *,
        init: str | Path,
        device: str | None = None,
    ) -> None:
        self._started, self._before = time.monotonic(), 0.0
        self.recipe, self.output, self.device = recipe, output, pick_device(device)
        output.mkdir(parents=True, exist_ok=True)
        first = hub.load(init)
        self.made_from: dict[str, object] = {"init": first.sha256}
        config = make_config(recipe, first)
        self.sources = read_sources(recipe, data, output, config)
        self.batches = Batches(
            recipe,
            self.sources,
            self._words(first),
            augment.mirrored_names(config.blendshapes),
        )
        priors = self.batches.priors()
        self.network, self.objective = begin(config, recipe, first, self.sources, priors)
        if self.device.type == "cpu":
            keep_float32_where_faster(self.network)
        # Channels last: twice as fast on a CPU.
        self.network = self.network.to(memory_format=torch.channels_last).to(self.device)
        self.objective = self.objective.to(self.device)
        self.average = moving_average(self.network, recipe.ema)
        new = (self.network.embedding, self.network.heads, self.objective)
        added = [parameter for module in new for parameter in module.parameters()]
        groups = [
            *parameter_groups(
                self.network.backbone.parameters(), recipe.weight_decay, recipe.backbone_lr
            ),
            *parameter_groups(added, recipe.weight_decay, recipe.head_lr),
        ]
        self.optimizer = torch.optim.AdamW(groups)
        self._rates = [group["lr"] for group in groups]
        self._trained = [parameter for group in groups for parameter in group["params"]]
        self.step = 0
        self._resume()

    @property
    def kept(self) -> FeverNet:
        """The network that is measured and released: the moving average."""
        kept = self.average.module
        assert isinstance(kept, FeverNet)
        return kept

    @property
    def seconds(self) -> float:
        """Time so far, in this process and in what others brought to the checkpoint."""
        return self._before + time.monotonic() - self._started

    def train(self, steps: int, minutes: float | None = None) -> None:
        """Go on to the end of the run.

        Args:
            steps: at which it ends, unless there are minutes.
            minutes: after which it ends.
        """
        self.network.train()
        self.objective.train()
        freeze(self.network, self.recipe.frozen)
        losses: list[dict[str, float]] = []
        bar = tqdm(total=steps if minutes is None else None, initial=self.step, disable=None)
        while (factor := self._factor(steps, minutes)) > 0:
            losses.append(self.train_step(factor))
            bar.update()
            if self.step % self.recipe.every == 0:
                self._report(losses)
        bar.close()
        if losses:
            self._report(losses)

    def train_step(self, factor: float) -> dict[str, float]:
        """Take one step at ``factor`` times the learning rates; returns each task's loss."""
        for group, rate in zip(self.optimizer.param_groups, self._rates):
            group["lr"] = rate * factor
        torch.manual_seed(step_seed(self.recipe, self.step))  # dropout
        batch = self.batches(self.step).to(self.device)
        losses = self.objective(self.network, batch)
        loss = torch.stack([weight * value for weight, value in losses.values()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained, _LARGEST_GRADIENT)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return {f"{name}_loss": value.item() for name, (_, value) in losses.items()}

    def _words(self, first: Checkpoint) -> dict[str, npt.NDArray[np.float32]]:
        """What the weights say of real faces, or said before."""
        names = ("ferplus", "faces", "portraits") if self.recipe.soft_weight else ("ferplus",)
        said = {}
        for name in names:
            crops = getattr(self.sources, name).crops
            content = hashlib.sha256(crops.data).hexdigest()
            kind = "mirrored" if self.recipe.soft_weight else "words"
            path = self.output / f"{kind}-{first.sha256[:12]}-{content[:12]}.npy"
            if not path.exists():
                answers = words(first, crops, self.device, mirror=bool(self.recipe.soft_weight))
                with replace_atomically(path) as temporary, open(temporary, "wb") as file:
                    np.save(file, answers)
            said[name] = np.load(path)
        return said

    def _factor(self, steps: int, minutes: float | None) -> float:
        """What the learning rates are multiplied by: falls to 0 where the run ends."""
        left = 1 - self.step / max(steps, 1)
        if minutes is not None:
            left = 1 - self.seconds / (60 * minutes)
        rising = min(1.0, (self.step + 1) / self.recipe.warm_up)
        return rising * min(1.0, left / self.recipe.decay)

    def _report(self, losses: list[dict[str, float]]) -> None:
        """Write the log's line of the steps since the last, and the checkpoint."""
        recipe, sources = self.recipe, self.sources
        self.kept.eval()
        logits = answers(self.kept, sources.valid)[1].numpy()
        truth = sources.valid.expression.argmax(axis=1)
        prior = as_prior(shares(sources.ferplus.expression)).log().numpy()
        names = sorted({name for line in losses for name in line})
        means = {n: np.mean([line[n] for line in losses if n in line]) for n in names}
        accuracy = Accuracy.of((logits + prior).argmax(axis=1), truth).accuracy
        class_mean = Accuracy.of(logits.argmax(axis=1), truth).mean_class_accuracy
        line = {
            **self.made_from,
            "epoch": round(self.step * recipe.ferplus / len(sources.ferplus), 3),
            "step": self.step,
            "seconds": round(self.seconds),
            **{name: round(float(value), 4) for name, value in means.items()},
            # The first presumes FER+'s shares of the classes, the second none.
            "valid_accuracy": round(accuracy, 4),
            "valid_mean_class_accuracy": round(class_mean, 4),
        }
        append_log(self.output, line)
        losses.clear()
        state = {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_state(self.output, self._identity(), state)

    def _identity(self) -> dict[str, object]:
        # Where a run ends, and how often it says so, may change while it goes on.
        free = dict.fromkeys(("steps", "decay", "every"))
        return {**dataclasses.asdict(self.recipe), **free, **self.made_from}

    def _resume(self) -> None:
        state = read_state(self.output, self._identity(), self.device)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self._before = state["step"], state["seconds"]
