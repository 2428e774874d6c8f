"""How to cite a study: one line, and an entry for BibTeX."""

from __future__ import annotations

from datetime import date

from qkvlab.report.latex import escaped
from qkvlab.report.view import Study


def citation(study: Study) -> str:
    """Return one line that names software, study and registration."""
    origin = study.origin
    return (
        f"qkvlab {origin['qkvlab']}, recipe {origin['recipe']}, registration {origin['registration']}, "
        f"{origin['cells']} cells."
    )


def bibtex(study: Study, day: date) -> str:
    """Return the entry.

    Args:
        study: what is cited; its registration says what was decided before the first run.
        day: when its last result came in.
    """
    origin = study.origin
    fields = {
        "author": "{The qkvlab developers}",
        "title": f"{{qkvlab: the laboratory for how a {{Transformer}} makes its queries, keys and values}}: "
        f"study {escaped(origin['recipe'])}",
        "version": escaped(origin["qkvlab"]),
        "date": day.isoformat(),
        "year": f"{day:%Y}",
        "note": f"Registration {origin['registration']}, source {escaped(origin['source'])}, "
        f"{origin['cells']} training runs",
    }
    inside = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@software{{qkvlab-{origin['registration']},\n{inside}}}\n"
