"""Sentences about the accuracy in groups of images (`--groups`)."""

from collections.abc import Iterator

from search.facts.answer import evaluated_groups
from search.journal.result import SearchResult
from trainables.errors import counted
from trainables.fairness.groups import GROUPS, LEAST_IMAGES
from trainables.values import Json

MOST_NAMES = 3
"""The maximum number of small groups that a sentence names."""


def group_lines(result: SearchResult) -> Iterator[str]:
    """Yield sentences on the groups in the latest evaluation of the answer."""
    yield from group_sentences(*evaluated_groups(result))


def group_sentences(evaluation: Json, part: str) -> Iterator[str]:
    """Yield sentences on the groups in an evaluation; none if it has no groups.

    Args:
        evaluation: a result of `Task.evaluate`.
        part: `validation` or `test`.
    """
    if (groups := evaluation.get(GROUPS)) is None:
        return
    if (worst := groups["worst"]) is not None:
        yield (
            f"The worst group of {part} images is class '{worst['class']}' with {worst['group']}: "
            f"{100 * worst['accuracy']:.1f} % of {counted(worst['images'], 'image')} are "
            f"classified correctly, and {100 * evaluation['accuracy']:.1f} % of all images. The "
            f"lowest true share of all {worst['compared']} classes within groups is between "
            f"{100 * worst['low']:.1f} and {100 * worst['high']:.1f} % (95 % interval)."
        )
    for title, attribute in groups["attributes"].items():
        if (gap := attribute["gap"]) is not None:
            by_name = {group["name"]: group for group in attribute["groups"]}
            low, high = (by_name[gap[end]] for end in ("worst", "best"))
            yield (
                f"By {title}, from {100 * low['accuracy']:.1f} % ({low['name']}) to "
                f"{100 * high['accuracy']:.1f} % ({high['name']}): {100 * gap['value']:.1f} points "
                f"apart (95 % interval {100 * gap['low']:.1f} to {100 * gap['high']:.1f})."
            )
    yield from _small_groups(groups)


def _small_groups(groups: Json) -> Iterator[str]:
    """Yield a sentence that names the groups with too few images to be compared."""
    if small := groups["small"]:
        more = f" and {len(small) - MOST_NAMES} more" if len(small) > MOST_NAMES else ""
        yield (
            f"Fewer than {LEAST_IMAGES} images, too few to be compared: "
            f"{', '.join(small[:MOST_NAMES])}{more}."
        )
    if groups["no_group"]:
        yield f"{counted(groups['no_group'], 'image')} without a group are left out."
