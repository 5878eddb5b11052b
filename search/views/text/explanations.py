"""Texts about explained predictions, which the terminal and the page share."""

from search.values.explanation import ExplainedImage, ExplanationReport
from trainables.catalog.explanations import METHODS
from trainables.errors import counted

NO_CHECK = "not possible for a baseline, which has no layers"
LEGEND = (
    "Score: the mean probability of the class while the pixels of the map appear in a blurred "
    "image, minus the mean while they are removed. A map is faithful if its score is the highest "
    "among 20, of which 19 are the same map mirrored and shifted at random, and at least 0.05 "
    "above their mean. It passes the check of the weights if maps of 19 networks whose last half "
    "of layers is random differ (rank correlation below 0.5), and all explain this network less "
    "well; a map of another such network passes in at most 1 of 20 cases."
)


def faithful_text(image: ExplainedImage) -> str:
    """Return the verdict on the faithfulness of a map, with its figures."""
    explanation = image.explanation
    verdict = "faithful" if explanation.is_faithful else "NOT faithful"
    return f"{verdict}: score {explanation.score:+.2f}, random maps {explanation.random_score:+.2f}"


def check_text(image: ExplainedImage) -> str:
    """Return the verdict of the check of the weights, with its figures."""
    explanation = image.explanation
    if explanation.depends_on_weights is None:
        return NO_CHECK
    verdict = "passed" if explanation.depends_on_weights else "FAILED"
    return (
        f"{verdict}: rank correlation {explanation.correlation:+.2f}, score of maps with random "
        f"layers {explanation.redrawn_score:+.2f}"
    )


def class_text(image: ExplainedImage) -> str:
    """Return the predicted class with its probability, and the true class of a mistake."""
    text = f"{image.class_name} {image.explanation.probability:.1%}"
    return f"{text}, in truth {image.true_class}" if image.is_mistake else text


def summary_lines(report: ExplanationReport) -> list[str]:
    """Return the lines that summarise all maps."""
    method, count = METHODS[report.method], counted(len(report.images), "map")
    lines = [
        f"{method.title} of {report.trial} ({report.model}): {method.meaning}",
        f"{report.faithful} of {count} faithful (by chance at most 1 in 20)",
    ]
    if report.passed is None:
        lines.append(f"check of the weights: {NO_CHECK}")
    else:
        lines.append(f"{report.passed} of {count} pass the check of the weights")
    if report.images and report.faithful <= len(report.images) // 2:
        lines.append(
            "warning: most maps are not faithful, so do not rely on them. Try another --method."
        )
    return lines
