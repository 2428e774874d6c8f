"""Zoology's own training of MQAR, run on the CPU as it is: its configuration, data, model, Trainer and test.

Nothing of it stands here; a checkout is read. What stands in for something else, none of it arithmetic:

wandb        an empty module, and a logger that keeps the losses and sends nothing
torchvision  its `StochasticDepth`, which the configuration gives a chance of 0, so that it does nothing
the device   its word vectors say cuda unless told: cpu here
tqdm         bars are silent; examples are drawn anew instead of read from the authors' folder
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import types
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

COMMIT = "dbcb60d2bd10a3cc7a89ee60c446c44900a4687f"
CONFIGURATIONS = "zoology/experiments/paper_configs/iclr24_zoology_figure2/configs.py"
RUNS = "attention-seqlen64-dmodel64-"
NOT_ASKED = -100
"""What its targets say at places without a question."""


@dataclass
class Followed:
    """What a training of theirs gave.

    Attributes:
        losses: of every step.
        epochs: seconds of each.
        tests: seconds of each.
        accuracies: after every epoch.
    """

    losses: list[float] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)
    tests: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def log(self, metrics: dict[str, Any]) -> None:
        """Take what the Trainer reports."""
        if "train/loss" in metrics:
            self.losses.append(float(metrics["train/loss"].detach()))


def configurations(checkout: Path) -> list[Any]:
    """Return its configurations of attention with 64 tokens and 64 channels, one for each of its rates.

    Raises:
        SystemExit: there is no checkout.
    """
    file = checkout / CONFIGURATIONS
    if not file.is_file():
        where = f"git clone https://github.com/HazyResearch/zoology && git checkout {COMMIT[:7]}"
        raise SystemExit(f"no Zoology at {checkout}: {file} is missing; get it by: {where}")
    _stand_in()
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    spec = importlib.util.spec_from_file_location("zoology_figure2", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [config for config in module.configs if config.run_id.startswith(RUNS)]


def sized(
    config: Any,
    *,
    batch: int,
    examples: int,
    exam: int,
    epochs: int = 1,
    dropout: bool = True,
    cache: Path | str | None = None,
) -> Any:
    """Return a configuration with other numbers of examples and epochs, or without its dropout.

    Args:
        config: one of `configurations`.
        batch: sequences of a step.
        examples: to train on.
        exam: held-out ones.
        epochs: how often it goes through the examples.
        dropout: whether its dropout stays.
        cache: a folder where its code keeps what it drew and finds it again.
    """
    config = config.model_copy(deep=True)
    config.data.cache_dir, config.data.batch_size, config.max_epochs = cache and str(cache), batch, epochs
    config.data.train_configs[0].num_examples = examples
    config.data.test_configs[0].num_examples = exam
    if not dropout:
        config.model.embed_dropout = 0.0
        config.model.sequence_mixer.kwargs["dropout"] = 0.0
    return config


def loaders(config: Any) -> tuple[Any, Any]:
    """Draw its examples; return what gives them out in training and in tests."""
    training, exam = importlib.import_module("zoology.data.utils").prepare_data(config.data)
    return training, exam


def trained(config: Any, data: tuple[Any, Any], seed: int, *, asked: bool) -> Followed:
    """Train one model by its Trainer, without stopping early.

    Args:
        config: of the training.
        data: see `loaders`.
        seed: of the start and of dropout.
        asked: whether logits are made for questions alone. Otherwise, as its loop has it, for all tokens, most of
            which the loss then leaves out.
    """
    train: Any = importlib.import_module("zoology.train")
    train.tqdm = partial(tqdm, disable=True)
    train.set_determinism(seed)
    model = train.LanguageModel(config=config.model)
    model.backbone.embeddings.device = "cpu"
    found = Followed()
    trainer = (asking_only(train.Trainer) if asked else train.Trainer)(
        model=Asked(model) if asked else model,
        train_dataloader=data[0],
        test_dataloader=data[1],
        max_epochs=config.max_epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        device="cpu",
        logger=found,
    )
    trainer.train_epoch = partial(_timed, trainer.train_epoch, found.epochs)
    test = partial(_timed, trainer.test, found.tests)

    def tested(epoch: int) -> dict[str, float]:
        metrics = test(epoch)
        found.accuracies.append(metrics["valid/accuracy"])
        return metrics

    trainer.test = tested
    trainer.fit()
    return found


class Asked(nn.Module):
    """A language model that gives, while it is trained, what goes into its last matrix instead of logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.backbone(tokens) if self.training else self.model(tokens)


def asking_only(trainer: type) -> type:
    """Return a Trainer of `Asked` models: the same loss and gradients, with logits made where there is a question."""

    class AskingOnly(trainer):
        @property
        def loss_fn(self) -> Any:
            return partial(asked_loss, self._whole, self.model)

        @loss_fn.setter
        def loss_fn(self, whole: Any) -> None:
            self._whole = whole

    return AskingOnly


def asked_loss(whole: Any, asked: Asked, given: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss over questions of vectors (n, d) in training, of logits (n, w) in tests."""
    if not asked.training:
        return whole(given, targets)
    places = targets != NOT_ASKED
    return whole(asked.model.lm_head(given[places]), targets[places])


def _timed(function: Any, seconds: list[float], *given: Any) -> Any:
    begun = time.perf_counter()
    result = function(*given)
    seconds.append(time.perf_counter() - begun)
    return result


class _Nothing(nn.Identity):
    # for torchvision's StochasticDepth
    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        if p:
            raise SystemExit(f"this configuration drops whole layers (drop_path={p}), which needs torchvision.")


def _stand_in() -> None:
    operators: Any = types.ModuleType("torchvision.ops")
    operators.StochasticDepth = _Nothing
    vision: Any = types.ModuleType("torchvision")
    vision.ops = operators
    sys.modules.update({"wandb": types.ModuleType("wandb"), "torchvision": vision, "torchvision.ops": operators})
