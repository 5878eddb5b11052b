"""The findings, in sentences."""

from datetime import datetime

from search.feedback.monitoring.accuracy import ACCURACY
from search.feedback.monitoring.class_mix import MIX, ClassShare, percent
from search.feedback.monitoring.detector import MOST_IMAGES, MOST_REFERENCE
from search.feedback.monitoring.findings import Check, Findings
from search.feedback.monitoring.held_to import LEAST, VALIDATION
from search.feedback.monitoring.outputs import OUTPUTS
from trainables.errors import counted

SHOWN = 5
"""The most classes that a line names."""
SAID = {OUTPUTS: "the answers", MIX: "the class mix", ACCURACY: "the accuracy"}


def verdict(found: Findings) -> str:
    """Return the answer in a sentence."""
    rate = f"false-alarm rate {found.rate:.3g}"
    if not found.checks:
        return f"too few images to tell: {'; '.join(dict.fromkeys(found.untested.values()))}"
    if found.changed:
        return f"changed: {_listed(found.changed)} ({rate})"
    enough = [check.name for check in found.checks if check.is_enough]
    few = [check.name for check in found.checks if not check.is_enough]
    few += list(found.untested)
    told = f"no change of {_listed(enough)} was seen" if enough else "no change was seen"
    return f"{told} ({rate})" + (f"; too few images to tell of {_listed(few)}" if few else "")


def _listed(names: list[str]) -> str:
    return ", ".join(SAID[name] for name in names)


def facts(found: Findings) -> list[tuple[str, str]]:
    """Return what was found, a title and a text each."""
    rows = [("answers", _answers(found))]
    if found.is_improved:
        rows.append(("held to", _held_to(found)))
    for name in (OUTPUTS, MIX):
        check = found.check(name)
        text = _text(found, check, "images") if check else f"not tested: {found.untested[name]}"
        rows.append((name, f"{text}. {mix_text(found)}" if check and name == MIX else text))
    rows.append(("accuracy", _accuracy(found)))
    if found.unsampled:
        images = counted(found.unsampled, "corrected image")
        rows.append(
            (
                "left out",
                f"{images} outside the random sample: people correct mistakes and unsure answers "
                "first",
            )
        )
    if found.learned:
        images = counted(found.learned, "corrected image")
        rows.append(("left out", f"{images} that it was trained on"))
    return rows


def _answers(found: Findings) -> str:
    first, last = (
        datetime.fromtimestamp(time_ms / 1000).strftime("%Y-%m-%d %H:%M")
        for time_ms in (found.first_ms, found.last_ms)
    )
    text = f"{found.answered:,} by version {found.version or '(none)'}"
    if found.images < found.answered:
        text += f", of which the latest on each of {found.images:,} images count"
    if found.met_again:
        text += f" (not the answers on {found.met_again:,} that it was trained on)"
    others = ", ".join(f"{name or '(none)'} ({count:,})" for name, count in found.others.items())
    return f"{text}; {first} to {last}" + (f"; left out: version {others}" if others else "")


def _held_to(found: Findings) -> str:
    """Return the images with which those of a model that was improved are compared."""
    if found.held_to != VALIDATION:
        return found.held_to
    return (
        f"{VALIDATION}, since of what was met before it was improved fewer than {LEAST} images "
        "of a random sample were kept that its training did not use"
    )


def earlier(found: Findings, name: str) -> str:
    """Return a name for the images with which a test compares new ones."""
    to = found.accuracy_held_to if name == ACCURACY else found.held_to
    return "validation images" if to == VALIDATION else "earlier images"


def _text(found: Findings, check: Check, what: str) -> str:
    """Return what a test found, or what it would have detected."""
    before = f"{check.reference_images:,} {earlier(found, check.name)}"
    p = f"p {check.p:.2g}, alarm at {check.rate:.2g}; {check.images:,} {what} beside {before}"
    if check.changed:
        return f"changed ({p})"
    if check.is_enough:
        return f"no change ({p}: enough to see {check.size}, which takes {check.needed:,})"
    return f"too few to tell ({p}); to see {check.size} takes {_takes(found, check, what)}"


def _takes(found: Findings, check: Check, what: str) -> str:
    """Return how many images a change takes: new ones, or else earlier ones."""
    if check.needed is not None:
        return f"{check.needed:,} {what}"
    before = earlier(found, check.name)
    if check.needed_reference is not None:
        return f"at least {check.needed_reference:,} {before}, however many {what} there are"
    return f"more than {MOST_IMAGES:,} {what} and {MOST_REFERENCE:,} {before}"


def mix_text(found: Findings) -> str:
    """Return which classes are named more or less often."""
    named = sorted(found.shares, key=lambda share: -abs(share.now - share.before))
    changed = [share for share in named if share.changed]
    if not changed:
        return "The largest differences are noise: " + "; ".join(map(share_text, named[:2]))
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return "; ".join(map(share_text, changed[:SHOWN])) + more


def share_text(share: ClassShare) -> str:
    """Return how often a class was and is named."""
    return (
        f"'{share.name}' named for {percent(share.before)} before, {percent(share.now)} now "
        f"({100 * share.low:.0f} to {100 * share.high:.0f})"
    )


def _accuracy(found: Findings) -> str:
    check, right = found.check(ACCURACY), found.accuracy
    if right is None:
        hint = "" if found.corrected >= LEAST else ". Correct more: python -m search.label"
        return f"not known: {found.untested[ACCURACY]}{hint}"
    value = f"{right.value:.3f} ({right.low:.3f} to {right.high:.3f})"
    if check is None or found.accuracy_before is None:
        return (
            f"{value} on {found.corrected:,} corrected images; compared with nothing: "
            + (found.untested[ACCURACY])
        )
    before = f"{found.accuracy_before:.3f} on {found.accuracy_held_to}"
    return f"{value}, {before}; {_text(found, check, 'corrected images')}"
