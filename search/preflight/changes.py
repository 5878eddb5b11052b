"""Changes, since a search began, of what decides its course."""

import json
from dataclasses import replace
from typing import Any

from search.design.experiment import PLACE, Experiment
from search.journal.events import SessionStart
from search.journal.provenance import provenance
from search.preflight.prepare import Prepared, session_facts
from search.values.wording import DECODED_OTHERWISE
from trainables.values import Json

OLD = {"time_budget"}
"""Fields that an earlier version's description has, and this version's has not."""
ALLOWED = {"budget", "price", "sealed", "trials", "horizon", "cpus_per_trial", "gpus_per_trial"}
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
    "data.guesses",
    "data.removed",
}
"""Fields that may differ without a question: they do not decide how a search goes, or were asked
for on the command line. Guesses, and how many copies are removed, follow from the images, whose
fingerprint is looked at.
"""
MAX_SHOWN = 20


def facts_now(experiment: Experiment, prepared: Prepared) -> SessionStart:
    """Describe a search as it would go on now, as a session's first event does."""
    return replace(session_facts(experiment, prepared), provenance=provenance())


def changes(before: SessionStart, now: SessionStart) -> list[str]:
    """Return a line for each change of what decides the search's course."""
    old, new = (
        dict(
            flat(
                json.loads(
                    json.dumps(
                        {
                            **one.experiment,
                            "data": one.data,
                            "weights": one.weights,
                            **_code(one.provenance),
                        }
                    )
                )
            )
        )
        for one in (before, now)
    )
    for key in [key for key in {**old, **new} if key.startswith("weights.")]:
        # An earlier version did not look at weights, and nobody does where no trial is to begin.
        if key not in old or key not in new:
            old.pop(key, None)
            new.pop(key, None)
    # An earlier version did not know `sure`, and began its rungs at the first epoch.
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
    lines = [f"  {key}: {_shown(old.get(key))} -> {_shown(new.get(key))}" for key in differ]
    if was_decoded_otherwise and "data.fingerprint" in differ:
        told = f"{DECODED_OTHERWISE}; the images may be the same"
        lines[differ.index("data.fingerprint")] += (
            f" ({told}: then go on with that version, or with --allow-change)"
        )
    return lines[:MAX_SHOWN] + [f"  and {len(lines) - MAX_SHOWN} more"] * (len(lines) > MAX_SHOWN)


def flat(values: Json, prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested values by dotted path."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
        )
    return found


def _code(origin: dict[str, str]) -> dict[str, str]:
    return {
        key: value for key, value in origin.items() if key == "code" or key.startswith("version.")
    }


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)[:80]
