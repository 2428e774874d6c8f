"""Which precision of products a study is registered with, where it leaves that open (`Spec.products`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qkvlab.contracts import Products
from qkvlab.study.spec import Spec
from qkvlab.study.store import Store
from qkvlab.training import precision
from qkvlab.training.place import Place
from qkvlab.training.workers import Order


def settled(
    spec: Spec, out: Path, place: Place, seconds: float, tell: Callable[[str], None] = lambda text: None
) -> Spec:
    """Return the study with a precision that is decided: what it was begun with, else what is faster.

    Args:
        spec: what is asked; one that names a precision is returned as it is.
        out: folder of the store, which need not be there; what is registered in it stays.
        place: where it is trained; it is closed where this raises.
        seconds: that the call may take.
        tell: called with a line about what is being tried.

    Raises:
        StoreError: the file in the folder cannot be read.
    """
    if spec.products != "auto":
        return spec
    found = _begun(spec, out)
    if found is None:
        try:
            found = _faster(spec, place, seconds, tell)
        except BaseException:
            place.close()
            raise
    return spec.model_copy(update={"products": found})


def _open(spec: Spec) -> dict[str, str]:
    """Return the tasks whose verdicts stay as they are by either precision, each with its first setting."""
    return {task: setting for task, setting in reversed(spec.pairs()) if spec.task(task).halves}


def _begun(spec: Spec, out: Path) -> Products | None:
    if not _open(spec) or not Store.begun(out):
        return None
    facts = [each["facts"] for each in Store.registered(out)["tasks"] if each["task"] in _open(spec)]
    return next((each["products"] for each in facts if "products" in each), "fp32")


def _faster(spec: Spec, place: Place, seconds: float, tell: Callable[[str], None]) -> Products:
    found: Products = "fp32"
    for name, setting in _open(spec).items():
        rates, seeds = spec.tuning(name)
        order = Order(name, setting, spec.baseline, ((seeds[0], rates[0]),), device=place.kind, text=spec.text)
        found = precision.faster(order, spec.task(name).facts(setting), place, seconds, tell)
        if found == "fp32":
            break
    return found
