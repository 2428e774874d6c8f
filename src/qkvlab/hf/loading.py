"""A rebuilt model comes back from where ``save_pretrained`` put it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedModel

from qkvlab.errors import BadInput
from qkvlab.hf.rebuilding import CONFIG, bare

Model = TypeVar("Model", bound=PreTrainedModel)


def load(kind: type[Model], directory: str | Path, **options: Any) -> Model:
    """Load what ``save_pretrained`` wrote of a model that `share` had rebuilt.

    ``kind.from_pretrained`` alone would build the original attention, find no weights for it and draw them anew.

    Args:
        kind: class of the model, such as `GPT2LMHeadModel`.
        directory: where it was saved.
        options: passed on to ``from_pretrained``.

    Raises:
        BadInput: the config names no design.
    """

    class Rebuilt(kind):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any, *args: Any, **more: Any) -> None:
            super().__init__(config, *args, **more)
            noted = getattr(config, CONFIG, None)
            if not noted:
                raise BadInput(f"{directory} holds no model that share has rebuilt; load it with from_pretrained.")
            bare(self, noted)

    Rebuilt.__name__ = kind.__name__
    Rebuilt.__module__ = kind.__module__
    model: Any = Rebuilt.from_pretrained(directory, **options)
    model.__class__ = kind
    return model
