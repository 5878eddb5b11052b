"""Changes since the start of a search that may affect its results."""

import json
from dataclasses import replace
from typing import Any

from search.design.experiment import PLACE, Experiment
from search.journal.events import SessionStart
from search.journal.provenance import provenance
from search.preflight.prepare import Prepared, session_facts
from search.values.nested import flatten
from search.values.wording import DECODED_OTHERWISE

OLD = {"time_budget"}
"""Fields that only descriptions by earlier versions of this program have."""
ALLOWED = {"budget", "price", "sealed", "trials", "horizon", "cpus_per_trial", "gpus_per_trial"}
"""Fields that the user may change on purpose when a search continues."""
UNCHECKED = {
    *PLACE,
    *OLD,
    *ALLOWED,
    "tracking",
    "space_source",
    "settings",
    "base.data.root",
    "download",
    "outside",
    "learn",
    "lessons",
    "data.guesses",
    "data.removed",
}
"""Fields that may differ: they do not affect the results, or were changed on purpose. The accuracy
of guessing and the number of removed copies follow from the images, whose fingerprint is compared.
"""
MAX_SHOWN = 20
"""The maximum number of changes that are listed."""


def facts_now(experiment: Experiment, prepared: Prepared) -> SessionStart:
    """Create the facts of a session that continues a search now, to compare them with earlier ones.

    They include the versions of the code and of the libraries.
    """
    return replace(session_facts(experiment, prepared), provenance=provenance())


def changes(before: SessionStart, now: SessionStart) -> list[str]:
    """Return a line for each change between two sessions that may affect the results.

    If there are more than `MAX_SHOWN`, the last line gives the number of further changes.
    """
    old, new = (
        dict(
            flatten(
                json.loads(
                    json.dumps(
                        {
                            **session.experiment,
                            "data": session.data,
                            "weights": session.weights,
                            **_code(session.provenance),
                        }
                    )
                )
            )
        )
        for session in (before, now)
    )
    for key in [key for key in {**old, **new} if key.startswith("weights.")]:
        # Compare weights only if both sessions have them: sessions in journals of earlier versions,
        # and sessions that start no trials, have none.
        if key not in old or key not in new:
            old.pop(key, None)
            new.pop(key, None)
    # Earlier versions had no `sure`, and their default for the first rung was epoch 1.
    if "sure" in new and "sure" not in old:
        old |= {"sure": 0.0, "grace": old.get("grace") or 1}
    was_decoded_otherwise = old.pop("data.decoding", None) != new.pop("data.decoding", None)
    differ = [
        key
        for key in {**old, **new}
        if old.get(key) != new.get(key)
        and key not in UNCHECKED
        and not key.startswith(("settings.", "data.root", "data.few_photographs"))
    ]
    lines = [
        f"  {key}: {_format_value(old.get(key))} -> {_format_value(new.get(key))}" for key in differ
    ]
    if was_decoded_otherwise and "data.fingerprint" in differ:
        remedy = "If the images are the same, continue with that version or with --allow-change"
        lines[differ.index("data.fingerprint")] += f" ({DECODED_OTHERWISE}. {remedy})"
    return lines[:MAX_SHOWN] + [f"  and {len(lines) - MAX_SHOWN} more"] * (len(lines) > MAX_SHOWN)


def _code(origin: dict[str, str]) -> dict[str, str]:
    return {
        key: value for key, value in origin.items() if key == "code" or key.startswith("version.")
    }


def _format_value(value: Any) -> str:
    return "nothing" if value is None else str(value)[:80]
