"""Describe the results of the monitor's tests in sentences."""

from datetime import datetime

from search.feedback.monitoring.accuracy import ACCURACY
from search.feedback.monitoring.class_mix import MIX, ClassShare, percent
from search.feedback.monitoring.detector import MAX_NEW_IMAGES, MAX_REFERENCE_IMAGES
from search.feedback.monitoring.findings import Check, Findings
from search.feedback.monitoring.groups import GroupAnswers
from search.feedback.monitoring.held_to import MIN_TESTED, VALIDATION
from search.feedback.monitoring.outputs import OUTPUTS
from search.values.message import Remedy, Start
from trainables.errors import counted
from trainables.fairness.groups import LEAST_IMAGES

MAX_CLASSES = 5
"""Maximum number of classes that are named in a line."""
SUBJECTS = {OUTPUTS: "the answers", MIX: "the class mix", ACCURACY: "the accuracy"}


def verdict(findings: Findings) -> str:
    """Summarise the findings in a sentence."""
    rate = f"false-alarm rate {findings.rate:.3g}"
    if not findings.checks:
        reasons = "; ".join(dict.fromkeys(findings.untested.values()))
        return f"too few images for a test: {reasons}"
    if findings.changed:
        return f"changed: {_subjects_text(findings.changed)} ({rate})"
    enough = [check.name for check in findings.checks if check.is_enough]
    few = [check.name for check in findings.checks if not check.is_enough]
    few += list(findings.untested)
    subjects = f" in {_subjects_text(enough)}" if enough else ""
    return f"no change{subjects} was detected ({rate})" + (
        f"; too few images for a test of {_subjects_text(few)}" if few else ""
    )


def _subjects_text(names: list[str]) -> str:
    return ", ".join(SUBJECTS[name] for name in names)


def facts(findings: Findings) -> list[tuple[str, str]]:
    """Describe the findings as rows of a table, (title, text)."""
    rows = [("answers", _answers_text(findings))]
    if findings.is_improved:
        rows.append(("compared with", _reference_text(findings)))
    for name in (OUTPUTS, MIX):
        check = findings.check(name)
        text = (
            _check_text(findings, check, "images")
            if check
            else f"not tested: {findings.untested[name]}"
        )
        rows.append((name, f"{text}. {mix_text(findings)}" if check and name == MIX else text))
    rows.append(("accuracy", _accuracy_text(findings)))
    rows += [(group.name, _group_text(group)) for group in findings.groups]
    if findings.unsampled:
        images = counted(findings.unsampled, "corrected image")
        rows.append(
            (
                "left out",
                f"{images} outside the random sample, since people correct mistakes and unsure "
                "answers first",
            )
        )
    if findings.learned:
        images = counted(findings.learned, "corrected image")
        rows.append(("left out", f"{images} that the model was trained on"))
    return rows


def _group_text(group: GroupAnswers) -> str:
    """Describe the answers in a group of images."""
    images = counted(group.images, "image")
    if (accuracy := group.accuracy) is None:
        return (
            f"{images}; accuracy not known: {group.corrected} of them are corrected images of a "
            f"random sample, but {LEAST_IMAGES} are required"
        )
    return (
        f"{images}; accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) on "
        f"{group.corrected:,} corrected images"
    )


def _answers_text(findings: Findings) -> str:
    first, last = (
        datetime.fromtimestamp(time_ms / 1000).strftime("%Y-%m-%d %H:%M")
        for time_ms in (findings.first_ms, findings.last_ms)
    )
    text = f"{findings.answered:,} by version {findings.version or '(none)'}"
    if findings.images < findings.answered:
        text += f", of which the latest on each of {findings.images:,} images count"
    if findings.met_again:
        text += f" (except for the {findings.met_again:,} images that it was trained on)"
    others_text = ", ".join(
        f"{name or '(none)'} ({count:,})" for name, count in findings.others.items()
    )
    return f"{text}; {first} to {last}" + (
        f"; left out: version {others_text}" if others_text else ""
    )


def _reference_text(findings: Findings) -> str:
    """Name the images with which the new images of an improved model are compared."""
    if findings.held_to != VALIDATION:
        return findings.held_to
    return (
        f"{VALIDATION}, since fewer than {MIN_TESTED} images of a random sample were recorded "
        "before it was improved and not used for its training"
    )


def earlier_images(findings: Findings, name: str) -> str:
    """A short name for the images with which a test compares new ones."""
    compared_with = findings.accuracy_held_to if name == ACCURACY else findings.held_to
    return "validation images" if compared_with == VALIDATION else "earlier images"


def _check_text(findings: Findings, check: Check, what: str) -> str:
    """Describe the result of a test, and the change that it would have detected."""
    before = f"{check.reference_images:,} {earlier_images(findings, check.name)}"
    p = f"p {check.p:.2g}, alarm at {check.rate:.2g}; {check.images:,} {what} and {before}"
    if check.changed:
        return f"changed ({p})"
    if check.is_enough:
        return f"no change ({p}: enough to detect {check.size}, which requires {check.needed:,})"
    needed = _needed_text(findings, check, what)
    return f"too few images ({p}); to detect {check.size} requires {needed}"


def _needed_text(findings: Findings, check: Check, what: str) -> str:
    """State how many new images a test needs.

    If no number of new images is enough, state how many reference images it needs.
    """
    if check.needed is not None:
        return f"{check.needed:,} {what}"
    before = earlier_images(findings, check.name)
    if check.needed_reference is not None:
        return f"at least {check.needed_reference:,} {before}, however many {what} there are"
    return f"more than {MAX_NEW_IMAGES:,} {what} and {MAX_REFERENCE_IMAGES:,} {before}"


def mix_text(findings: Findings) -> str:
    """Describe the classes that are predicted significantly more or less often than before."""
    shares = sorted(findings.shares, key=lambda share: -abs(share.now - share.before))
    changed = [share for share in shares if share.changed]
    if not changed:
        return "The largest differences are noise: " + "; ".join(map(share_text, shares[:2]))
    more = f" and {len(changed) - MAX_CLASSES} more" if len(changed) > MAX_CLASSES else ""
    return "; ".join(map(share_text, changed[:MAX_CLASSES])) + more


def share_text(share: ClassShare) -> str:
    """Describe how often a class was predicted before, and is predicted now."""
    return (
        f"'{share.name}' predicted for {percent(share.before)} before, {percent(share.now)} now "
        f"({100 * share.low:.0f} to {100 * share.high:.0f})"
    )


def _accuracy_text(findings: Findings) -> str:
    check, accuracy = findings.check(ACCURACY), findings.accuracy
    if accuracy is None:
        correct_more = Remedy("label", start=Start.ANYWHERE)
        hint = "" if findings.corrected >= MIN_TESTED else f". Correct more: {correct_more}"
        return f"not known: {findings.untested[ACCURACY]}{hint}"
    value = f"{accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f})"
    if check is None or findings.accuracy_before is None:
        return (
            f"{value} on {findings.corrected:,} corrected images; not compared: "
            + (findings.untested[ACCURACY])
        )
    before = f"{findings.accuracy_before:.3f} on {findings.accuracy_held_to}"
    return f"{value}, {before}; {_check_text(findings, check, 'corrected images')}"
