"""A data report in sentences and tables: warnings at the start of a search, and the full report."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap

from trainables.catalog.datasets import DATASETS
from trainables.datasets.arrays import TITLES
from trainables.errors import counted, printable
from trainables.inspection.leaks import EXACT, MIRRORED, NEAR, Image
from trainables.inspection.report import (
    EXPECTED,
    MIN_CLASS,
    DataReport,
    LabelErrors,
    Match,
    MatchCount,
    SuspiciousLabel,
)

COARSE = 0.05
"""A note is printed if the half-width of an accuracy's 95 % interval exceeds this."""
WIDTH, MAX_NAMED, MAX_PAIRS, MAX_NAME = 80, 20, 5, 40
MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "P": "palette",
    "RGB": "colour",
    "RGBA": "colour with transparency",
    "CMYK": "CMYK",
}
"""Pillow's modes in words; other modes are printed unchanged."""
KINDS = {EXACT: "equal", NEAR: "nearly equal", MIRRORED: "mirrored"}
DOES = {
    EXACT: ("is a copy of {}", "are copies of {}"),
    NEAR: ("is nearly equal to {}", "are nearly equal to {}"),
    MIRRORED: ("is nearly a mirror image of {}", "are nearly mirror images of {}"),
}
"""The verbs for a single image and for several, by kind of match."""


def headline(report: DataReport) -> str:
    """Summarise the data set in one line.

    A published data set has a root folder too, but only that of a folder of images is named.
    """
    is_folder = report.name in DATASETS and DATASETS[report.name].from_folder
    source = f"folder {printable(Path(report.root).name)}" if is_folder else report.name
    parts = [
        f"{images:,} {_title(report, part)}" for part, images in report.images.items() if images
    ]
    classes = f" in {counted(len(report.classes), 'class', 'classes')}" if report.classes else ""
    return (
        f"{source}: {counted(sum(report.images.values()), 'image')}{classes} "
        f"({', '.join(parts)}), {form(report)}"
    )


def form(report: DataReport) -> str:
    """Describe the size and colour of the decoded images: `32 x 32 pixels, colour`."""
    height, width, channels = report.shape
    size = f"up to {width} x {height}" if report.is_ragged else f"{width} x {height}"
    return f"{size} pixels, {'grey' if channels == 1 else 'colour'}"


def _title(report: DataReport, part: str) -> str:
    return f"in {report.folds} folds" if report.folds and part == "train" else TITLES[part]


def warnings(report: DataReport) -> Iterator[str]:
    """Yield lines that begin with `warning:` or `note:`, to print when a search starts."""
    yield from _leaks(report)
    for part, removed in report.removed.items():
        if removed > report.images[part]:
            yield (
                f"warning: more than half of the {TITLES[part]} set is left out for this reason. "
                "If images come in series, for example frames of a film, put each series into "
                "only one set."
            )
    yield from _contradictions(report)
    yield from _classes(report)
    coarse = [
        f"±{100 * precision:.1f} points on {counted(report.images[part], f'{TITLES[part]} image')}"
        for part in ("val", "test")
        if (precision := report.precision(part)) > COARSE
    ]
    if coarse:
        precisions = " and ".join(coarse)
        yield (
            f"note: an accuracy of {EXPECTED:g} is known to within {precisions} (95 % confidence)."
        )


def _leaks(report: DataReport) -> Iterator[str]:
    """Yield lines on copies in different parts or, with folds, within the training set."""
    for count in report.match_counts:
        is_twice_in_folds = report.folds and count.part == "train" and not report.together
        if count.part == count.same_as and not (is_twice_in_folds or count.removed):
            continue
        first = next((match for match in report.matches if match.group == count.group), None)
        example = f" (first: {match_text(first)})" if first and first.image.name else ""
        kind = "note" if count.kind == MIRRORED else "warning"
        removal = _removal_text(count) if count.removed else ""
        yield f"{kind}: {match_count_text(report, count)}{example}{removal}."


def match_count_text(report: DataReport, count: MatchCount) -> str:
    """Describe a count of copies: `400 of 436 test images are copies of training images`."""
    every = report.images[count.part] + report.removed.get(count.part, 0)
    of = f" of {every:,}" if every > count.images else ""
    does = DOES[count.kind][count.images > 1].format(
        f"{'a ' * (count.images == 1)}{TITLES[count.same_as]} image{'s' * (count.images > 1)}"
    )
    return f"{count.images:,}{of} {TITLES[count.part]} image{'s' * (every > 1)} {does}"


def _removal_text(count: MatchCount) -> str:
    some = f"{count.removed:,} of them {'is' if count.removed == 1 else 'are'}"
    every = "it is" if count.removed == 1 else "they are"
    who = every if count.removed == count.images else some
    return f": {who} left out of the {TITLES[count.part]} set (--set data.leaks=keep keeps them)"


def _contradictions(report: DataReport) -> Iterator[str]:
    for kind in (EXACT, NEAR):
        disagree = [match for match in report.matches if match.disagrees and match.kind == kind]
        if number := sum(count.disagree for count in report.match_counts if count.kind == kind):
            example = "".join(
                f" (first: {match_text(match)}, '{printable(match.image.label)}' and "
                f"'{printable(match.same_as.label)}')"
                for match in disagree[:1]
            )
            yield (
                f"warning: {counted(number, 'image')} {'has' if number == 1 else 'have'} a "
                f"different class from {'an' if kind == EXACT else 'a'} {KINDS[kind]} image"
                f"{example}. Check these images: at most one of the two classes is correct."
            )
    if (count := report.contradicting) > 0:
        yield (
            f"warning: {counted(count, 'test image')} with an equal test image of another class "
            f"{'is' if count == 1 else 'are'} left out of the test set (--set "
            "data.leaks=together keeps them)."
        )


def contradictions(report: DataReport) -> list[tuple[str, str, str, str]]:
    """Return the copies with different classes, each as (file, class, other file, other class)."""
    return [
        (
            image_text(match.image),
            printable(match.image.label),
            image_text(match.same_as),
            printable(match.same_as.label),
        )
        for match in report.matches
        if match.disagrees
    ]


def _classes(report: DataReport) -> Iterator[str]:
    for part, names in report.missing.items():
        if part != "train":
            quoted = ", ".join(f"'{printable(name)}'" for name in names[:3])
            more = ", ..." if len(names) > 3 else ""
            classes = f"{len(names):,} classes ({quoted}{more})" if names[1:] else f"class {quoted}"
            yield f"warning: the {TITLES[part]} set has no image of {classes}."
    if small := report.small_classes:
        fewest = min(small, key=lambda name: small[name])
        remedy = (
            "Add images of them."
            if report.pixels or report.objects
            else "Add images, or use pretrained networks, which need fewer (--download, --weights)."
        )
        yield (
            f"warning: {counted(len(small), 'class', 'classes')} of {len(report.classes):,} "
            f"{'has' if len(small) == 1 else 'have'} fewer than {MIN_CLASS} training images "
            f"(fewest: '{printable(fewest)}', {small[fewest]:,}). {remedy}"
        )


def match_text(match: Match) -> str:
    """Describe a match: `test/cat/1.png = train/cat/7.png`; images without files have numbers."""
    sign = {EXACT: "=", NEAR: "~", MIRRORED: "mirrors"}[match.kind]
    return f"{image_text(match.image)} {sign} {image_text(match.same_as)}"


def image_text(image: Image) -> str:
    """Return an image's file or, if it has none, its part and its number in the part, from 1."""
    return image.name or f"{TITLES[image.part]} image {image.row + 1:,}"


def class_table(report: DataReport) -> list[list[str]]:
    """Return a table of the number of images by class and part; empty without classes.

    Its rows are the titles, one row for each class, and the sums. If pixels have classes, there are
    shares of the pixels instead, and no sums; if there are objects, they are counted.
    """
    columns, last = {}, "all"
    for part, counts in report.counts.items():
        columns[part] = [f"{count:,}" for count in (*counts, report.images[part])]
    for part, pixels in report.pixels.items():
        columns[part], last = _in_images(map(share_text, pixels.shares), pixels.images), ""
    for part, objects in report.objects.items():
        cells = _in_images((f"{count:,}" for count in objects.objects), objects.images)
        columns[part], last = [*cells, counted(objects.without, "image")], "none"
    if not columns:
        return []
    names = ["class", *map(printable, report.classes), *([last] if last else [])]
    titled = [[_title(report, part), *cells] for part, cells in columns.items()]
    return [list(row) for row in zip(names, *titled, strict=True)]


def _in_images(amounts: Iterable[str], images: Iterable[int]) -> list[str]:
    return [
        f"{amount} in {counted(count, 'image')}"
        for amount, count in zip(amounts, images, strict=True)
    ]


def share_text(share: float) -> str:
    """Format a share in percent, such that a small one is not shown as 0."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else "< 0.1 %"


def picture_title(report: DataReport) -> str:
    """Return the title of the report's picture (`pictures.picture`)."""
    if report.pixels:
        return "Training images with each class, and their masks laid over them"
    if report.objects:
        return "Training images with objects of each class, and all their boxes"
    return "Training images of each class" if report.classes else "Training images"


def facts(report: DataReport) -> list[tuple[str, str]]:
    """Return (title, text) for each fact about the files and the decoded images."""
    files, titled = report.files, [("read as", form(report))]
    if report.value_range is not None:
        low, high = report.value_range
        titled.append(("brightness", f"values from {low:g} to {high:g} became 0 to 255"))
    if files is not None:
        more = [f"{files.other_sizes:,} other sizes"] if files.other_sizes else []
        files_count = sum(files.formats.values())
        part = f" (in {files.looked_at:,} of the files)" if files.looked_at < files_count else ""
        sizes = [f"{size} ({count:,})" for size, count in files.sizes.items()]
        modes = [f"{MODES.get(mode, mode)} ({count:,})" for mode, count in files.modes.items()]
        formats = [f"{suffix} ({count:,})" for suffix, count in files.formats.items()]
        titled += [
            ("formats", ", ".join(formats)),
            ("sizes", ", ".join([*sizes, *more]) + part),
            ("colours", ", ".join(modes) + part),
        ]
    if report.occurrences:
        name, share = report.majority
        text = f"{100 * share:.3g} % of the training {report.unit} are '{printable(name)}'"
        titled.append(("largest class", text))
    titled += [
        (
            f"{TITLES[part]} set",
            f"an accuracy of {EXPECTED:g} on {counted(report.images[part], 'image')} is known "
            f"to within ±{100 * precision:.1f} points (95 % confidence)",
        )
        for part in ("val", "test")
        if (precision := report.precision(part))
    ]
    if report.pixels and (ignored := report.pixels["train"].ignored_share):
        text = f"{share_text(ignored)} of the training pixels belong to no class"
        titled.append(("ignored", text))
    titled.append(("copies", _copies(report)))
    if report.left_out_count:
        titled.append(("left out", f"{counted(report.left_out_count, 'file')}"))
    return titled


def _copies(report: DataReport) -> str:
    counts = [match_count_text(report, count) for count in report.match_counts]
    limit = f" ({report.compared})" if report.compared else ""
    return ("; ".join(counts) or "none found") + limit


def lines(report: DataReport) -> list[str]:
    """Return the whole report for a terminal of 80 columns, warnings first."""
    remarks = list(dict.fromkeys([*report.remarks, *warnings(report)]))
    text_lines = [
        *wrap(headline(report), WIDTH, subsequent_indent="  "),
        *([""] if remarks else []),
    ]
    for line in sorted(remarks, key=lambda line: not line.startswith("warning")):
        text_lines += wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False)
    if table := class_table(report):
        text_lines += ["", *align_columns(table)]
    text_lines.append("")
    for title, text in facts(report):
        text_lines += wrap(
            f"{title:<16}{text}", WIDTH, subsequent_indent=" " * 16, break_long_words=False
        )
    if to_check := contradictions(report):
        text_lines.append("check these pairs, which show the same picture but differ in class:")
        pairs = [
            f"{file} ('{label}') and {other_file} ('{other_label}')"
            for file, label, other_file, other_label in to_check
        ]
        text_lines += _first_of(pairs, MAX_NAMED, len(pairs))
    omitted = [f"{entry.path}: {entry.reason}" for entry in report.left_out]
    text_lines += _first_of(omitted, MAX_NAMED, report.left_out_count)
    for count in report.match_counts:
        matches = [match_text(match) for match in report.matches if match.group == count.group]
        text_lines += _first_of(matches, MAX_PAIRS, count.images)
    return text_lines + (label_lines(report.labels) if report.labels else [])


def _first_of(texts: list[str], most: int, count: int) -> list[str]:
    """Indent the first `most` texts, and add how many more there are, of `count` in total."""
    more = [f"and {count - most:,} more"] if count > most else []
    return [f"  {text}" for text in (*texts[:most], *more)]


def label_lines(labels: LabelErrors) -> list[str]:
    """Return the lines on labels that are probably wrong, for a terminal of 80 columns."""
    text_lines = ["", *wrap(label_headline(labels), WIDTH, subsequent_indent="  ")]
    text_lines += [f"  {line}" for line in pair_lines(labels)]
    if not labels.suspicious:
        return text_lines
    table = [["check these labels", "label", "suggested", "wrong"]] + [
        [
            image_text(suspect.image),
            shorten(printable(suspect.image.label)),
            shorten(printable(suspect.suggested)),
            chance_text(suspect),
        ]
        for suspect in labels.suspicious[:MAX_NAMED]
    ]
    text_lines += ["", *align_columns(table)]
    if (more := len(labels.suspicious) - MAX_NAMED) > 0:
        text_lines.append(f"and {more:,} more")
    return text_lines


def align_columns(rows: list[list[str]]) -> list[str]:
    """Format a table as lines; names, the first column, are left-aligned, numbers right-aligned."""
    rows = [[shorten(row[0]), *row[1:]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shorten(name: str) -> str:
    """Shorten a name to at most `MAX_NAME` characters, with an ellipsis at the end."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def label_headline(labels: LabelErrors) -> str:
    """Summarise the expected number of wrong labels in a sentence."""
    judged = f"{counted(labels.judged, 'label')} {'was' if labels.judged == 1 else 'were'} judged"
    checked = f"; {labels.checked:,} others were checked by a person" if labels.checked else ""
    scope = f"({judged} by {labels.features}{checked})"
    if not labels.expected:
        listed = "; those listed are the least typical of their class" if labels.suspicious else ""
        return f"There is no evidence of wrong labels {scope}{listed}."
    share = 100 * labels.expected / max(1, labels.judged)
    return (
        f"About {counted(max(1, round(labels.expected)), 'label')} ({share:.2g} %) "
        f"{'is' if round(labels.expected) <= 1 else 'are'} expected to be wrong {scope}; "
        f"{labels.likely:,} {'is' if labels.likely == 1 else 'are'} probably wrong."
    )


def chance_text(suspect: SuspiciousLabel) -> str:
    """Format the probability that a label is wrong; empty without evidence of wrong labels."""
    return f"{100 * suspect.chance:.0f} %" if suspect.chance else ""


def pair_lines(labels: LabelErrors) -> Iterator[str]:
    """Yield a line for each pair of classes with expected errors."""
    for pair in labels.pairs:
        yield (
            f"{pair.expected:,.0f} with the label '{printable(pair.label)}' that show "
            f"'{printable(pair.suggested)}'"
        )
