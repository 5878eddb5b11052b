"""The findings, in sentences."""

from datetime import datetime

from search.feedback.monitoring.class_mix import ClassShare
from search.feedback.monitoring.findings import (
    ACCURACY,
    CALIBRATION,
    FEATURES,
    MIX,
    OUTPUTS,
    Check,
    Findings,
)
from search.feedback.monitoring.held_to import LEAST, VALIDATION
from trainables.errors import counted

SHOWN = 5
"""The most classes that a line names."""
LEAST_MOVED = 0.15
"""The least difference of means that is named, in standard deviations."""
SAID = {
    OUTPUTS: "what the model answers",
    FEATURES: "the images",
    MIX: "the class mix",
    ACCURACY: "the accuracy",
    CALIBRATION: "the calibration",
}


def verdict(found: Findings) -> str:
    """Return the answer in a sentence."""
    rate = f"false-alarm rate {found.rate:.3g}"
    if not found.checks:
        return f"too few images to tell: {found.images:,} (at least {LEAST} are needed)"
    if found.changed:
        return f"changed: {', '.join(SAID[name] for name in found.changed)} ({rate})"
    enough = [SAID[check.name] for check in found.checks if check.is_enough]
    few = [SAID[check.name] for check in found.checks if not check.is_enough]
    told = f"no change of {', '.join(enough)} was seen" if enough else "no change was seen"
    return f"{told} ({rate})" + (f"; too few images to tell of {', '.join(few)}" if few else "")


def facts(found: Findings) -> list[tuple[str, str]]:
    """Return what was found, a title and a text each."""
    rows = [("answers", _answers(found))]
    if found.is_improved:
        rows.append(("held to", _held_to(found)))
    if images := found.check(FEATURES):
        rows.append(
            ("images", _text(found, images, "images of a random sample") + _moved(found, images))
        )
    else:
        rows.append(("images", f"not tested: fewer than {LEAST} of a random sample are kept"))
    if outputs := found.check(OUTPUTS):
        rows.append(("outputs", _text(found, outputs, "answers")))
    elif found.images - found.met_again >= LEAST:
        rows.append(("outputs", "not tested: the networks of folds have seen all images"))
    if mix := found.check(MIX):
        rows.append(("class mix", f"{_text(found, mix, 'answers')}. {mix_text(found)}"))
    return [*rows, *_corrected(found)]


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
    """Return what the images, and the corrected ones, of a model that was improved are held to."""
    if found.held_to == VALIDATION:
        return (
            f"{VALIDATION}, since of what was met before it was improved fewer than {LEAST} images "
            "of a random sample were kept that its training did not use"
        )
    return (
        f"{found.held_to}; what it answers, to its answers on {found.outputs_held_to:,} of them "
        "that were kept from its training"
    )


def earlier(found: Findings, name: str) -> str:
    """Return a name for the images that a test holds new ones to."""
    to = found.accuracy_held_to if name in (ACCURACY, CALIBRATION) else found.held_to
    return "validation images" if to == VALIDATION else "earlier images"


def _text(found: Findings, check: Check, what: str) -> str:
    """Return what a test found, or what it would have seen."""
    p = f"p {check.p:.2g}, alarm at {check.rate:.2g}; {check.images:,} {what}"
    if check.changed:
        return f"changed ({p})"
    if check.needed is None:
        images = earlier(found, check.name)
        # Images are compared with those alone of which the model was as sure.
        images += " of such confidence" if check.name == CALIBRATION else ""
        return f"no change seen ({p}); {check.size} cannot be seen by so few {images}"
    if check.is_enough:
        return f"no change ({p}: enough to see {check.size}, which takes {check.needed:,})"
    return f"too few to tell ({p}); to see {check.size} takes {check.needed:,}"


def _moved(found: Findings, check: Check) -> str:
    """Return in what the images differ on average, if they do."""
    if not check.changed:
        return ""
    told = [
        f"{title} {moved:+.1f}" for title, moved in found.moved.items() if abs(moved) >= LEAST_MOVED
    ]
    return f": {', '.join(told)} standard deviations on average" if told else ""


def mix_text(found: Findings) -> str:
    """Return which classes have become more or less frequent."""
    check = found.check(MIX)
    named = sorted(
        (share for share in found.shares if share.changed),
        key=lambda share: -abs(share.now - share.before),
    )
    if check is None or not check.changed or not named:
        named = sorted(found.shares, key=lambda share: -abs(share.now - share.before))[:2]
        return "The largest differences are noise: " + "; ".join(map(share_text, named))
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    text = "; ".join(map(share_text, named[:SHOWN])) + more
    images = found.check(FEATURES)
    if images is not None and images.changed:
        text += " (if images of a class look as they did, which they may not)"
    return text


def share_text(share: ClassShare) -> str:
    """Return how frequent a class was and is."""
    return (
        f"'{share.name}' {100 * share.before:.0f} % before, {100 * share.now:.0f} % now "
        f"({100 * share.low:.0f} to {100 * share.high:.0f})"
    )


def _corrected(found: Findings) -> list[tuple[str, str]]:
    """Return what is said of corrected images, and what the others suggest."""
    rows = [("accuracy", _accuracy(found))]
    if found.by_visitors:
        images = counted(found.by_visitors, "image")
        rows.append(
            (
                "left out",
                f"{images} corrected on the server's page, whose visitors mostly tell of mistakes",
            )
        )
    if found.learned:
        images = counted(found.learned, "corrected image")
        rows.append(("left out", f"{images} that it was trained on"))
    if (told := found.suggested) is not None:
        rows.append(
            (
                "suggested",
                f"by confidences alone an accuracy of {told.value:.3f} ({told.low:.3f} to "
                f"{told.high:.3f}): right if images of one confidence are right as often as they "
                "were, which after a change they may not be",
            )
        )
    check = found.check(CALIBRATION)
    if check is not None and found.calibration is not None:
        sure = found.calibration
        where = VALIDATION if found.accuracy_held_to == VALIDATION else "the same images"
        direction = "surer" if sure.surer >= 0 else "less sure"
        rows.append(
            (
                "calibration",
                f"error {sure.error:.3f}, {sure.before:.3f} on {where}; "
                f"{100 * abs(sure.surer):.0f} points {direction} than right "
                f"({100 * sure.low:+.0f} to {100 * sure.high:+.0f}); "
                f"{_text(found, check, 'corrected images')}",
            )
        )
    return rows


def _accuracy(found: Findings) -> str:
    check, right = found.check(ACCURACY), found.accuracy
    if right is not None:
        value = f"{right.value:.3f} ({right.low:.3f} to {right.high:.3f})"
        weighted = "weighted by confidence, since those of which the model is unsure are corrected"
        if check is None or found.accuracy_before is None:
            return (
                f"{value}, {weighted} first; held to nothing, nor is the calibration: "
                f"{counted(found.labelled, 'image')} of known class held out before it was "
                f"improved {'stands' if found.labelled == 1 else 'stand'} for all, {LEAST} are "
                "needed"
            )
        return (
            f"{value}, {found.accuracy_before:.3f} on {found.accuracy_held_to}; "
            f"{_text(found, check, 'corrected images')}; {weighted} first"
        )
    if not found.is_covered:
        return (
            f"not known: the {found.corrected:,} corrected images are not like all in how sure the "
            "model is of them. Correct some of every kind (python -m search.label)"
        )
    return f"not known: {counted(found.corrected, 'corrected image')}, {LEAST} are needed"
