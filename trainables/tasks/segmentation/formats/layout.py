"""The layout of a folder of images with masks: its parts, and the mask of each image."""

import csv
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainables.datasets.arrays import TITLES
from trainables.datasets.layout import FIRST, Layout, are, hint_at_default
from trainables.datasets.pairs import Pairing, PlacedFile, find_pairs, place_files
from trainables.datasets.walk import Folder, walk
from trainables.errors import counted, printable
from trainables.tasks.segmentation.formats import coco
from trainables.tasks.segmentation.formats.coco import CocoFile, Drawing
from trainables.tasks.segmentation.formats.decoding import looks_like_a_mask
from trainables.tasks.segmentation.formats.tables import TABLE_FILES, ClassTable, read_table

FORMS = (
    "the folders images/ and masks/ with equal file names (also train/images and train/masks), "
    "masks such as x_mask.png beside x.png, or COCO annotations (annotations.json)"
)
GROUPS_FILE = "groups.csv"
NO_MASK = "an image without a mask"
NO_IMAGE = "a mask without an image"
BESIDE_PAIRS = "neither an image with a mask nor a mask"


@dataclass
class MaskLayout(Layout):
    """The images by part, with class "", and the source of the mask of each."""

    masks: dict[Path, Path] = field(default_factory=dict)
    """The mask file of each image, unless masks are drawn."""
    drawings: dict[Path, Drawing] = field(default_factory=dict)
    """The shapes of each image's mask, if they are in COCO annotations."""
    drawn_classes: tuple[str, ...] = ()
    """The classes of the annotations."""
    table: ClassTable | None = None
    """The names of the classes, if the folder has a file with them."""
    tables: list[Path] = field(default_factory=list)
    """The files with names, colours, annotations and groups."""
    groups: dict[Path, str] = field(default_factory=dict)
    """The group of each image; empty if there are no groups."""

    resizes = False

    @property
    def files(self) -> list[Path]:
        """The paths of all files that decide on pixels and masks."""
        return [*self.paths, *(self.masks[path] for path in self.paths if self.masks), *self.tables]


def mask_layout_of(root: Path, *, skip_bad: bool = False) -> MaskLayout:
    """Find the images and masks below a folder.

    Args:
        root: the folder.
        skip_bad: True to leave out images without masks; otherwise they are problems.

    Raises:
        DataError: there are no masks, or it is ambiguous which image a mask belongs to.
        OSError: a folder cannot be read.
    """
    layout, top = MaskLayout(root), walk(root, root.resolve())
    layout.reasons |= top.not_read
    if pairing := find_pairs(top, root):
        _read_tables(layout)
        _take_pairs(layout, pairing, skip_bad=skip_bad)
    elif files := annotations_in(top):
        _take_annotations(layout, top, files, skip_bad=skip_bad)
    else:
        raise layout.refuse(
            f"there are no images with masks in {str(root)!r}. Expected {FORMS}. "
            + hint_at_default()
        )
    _check_parts(layout)
    return layout


def why_segmentation(root: Path) -> str:
    """Return the reason to read a folder as images with masks; empty if it is not one.

    Only names are read, and at most one mask is opened.
    """
    try:
        top = walk(root, root.resolve())
        if pairing := find_pairs(top, root):
            masks = sorted(mask.path for mask in pairing.mask_of.values())
            return pairing.form if masks and looks_like_a_mask(masks[0]) else ""
        files = annotations_in(top)
        return _form_of_annotations(files) if files and has_no_classes(top) else ""
    except OSError:  # the reader reports it
        return ""


def annotations_in(folder: Folder) -> list[Path]:
    """Return the COCO files below a folder that have shapes."""
    paths = sorted(path for path in folder.not_read if coco.FILE.fullmatch(path.name))
    return [path for path in paths if coco.has_shapes(path)]


def _form_of_annotations(files: list[Path]) -> str:
    return f"{files[0].name!r} has the shapes of objects"


def _add_task(layout: MaskLayout, form: str) -> None:
    layout.notes.append(f"note: the task is segmentation, because {form} (--task overrides it).")


def _read_tables(layout: MaskLayout) -> None:
    """Read the file with the names of the classes that is closest to the root, if there is one."""
    files = sorted(
        (path for path in layout.reasons if path.name.lower() in TABLE_FILES),
        key=lambda path: (len(path.parts), path),
    )
    if not files:
        return
    tables = [read_table(path) for path in files if len(path.parts) == len(files[0].parts)]
    coloured = [table for table in tables if table.colours] or tables
    layout.table = coloured[0]
    if len({(table.names, table.colours) for table in coloured}) > 1 or any(
        set(table.names) != set(layout.table.names) for table in tables
    ):
        names = " and ".join(repr(table.source) for table in tables)
        raise layout.refuse(f"{names} name different classes. Keep only one of these files.")
    _use(layout, files)
    layout.notes.append(
        f"note: the names of {counted(len(layout.table.names), 'class', 'classes')} are those in "
        f"{layout.table.source!r}."
    )


def _use(layout: MaskLayout, files: Collection[Path]) -> None:
    """Record files as read, which the walk through the folder did not read."""
    layout.tables += files
    for path in files:
        layout.reasons.pop(path, None)


def _take_pairs(layout: MaskLayout, pairing: Pairing, *, skip_bad: bool) -> None:
    _add_task(layout, pairing.form)
    layout.reasons |= dict.fromkeys(pairing.unpaired, BESIDE_PAIRS)
    if pairing.unpaired:
        layout.notes.append(
            f"note: {are(pairing.unpaired, 'image')} left out, being {BESIDE_PAIRS} "
            f"({layout.first(pairing.unpaired)})."
        )
    if pairing.doubled:
        layout.problems.append(
            f"{counted(len(pairing.doubled), 'file')} of the same kind "
            f"{'has' if len(pairing.doubled) == 1 else 'have'} the name of another one "
            f"({layout.first(file.path for file in pairing.doubled)}), so it is unclear which "
            "mask belongs to which image. Rename or remove them."
        )
    masked = {pairing_file.part for pairing_file in pairing.masks}
    images = _without_unmasked_parts(layout, pairing.images, masked)
    lone = [file.path for file in images if file.path not in pairing.mask_of]
    _refuse_lone(layout, lone, NO_MASK, "no mask", skip_bad=skip_bad)
    alone = [mask.path for mask in pairing.alone]
    _refuse_lone(layout, alone, NO_IMAGE, "no image", skip_bad=skip_bad)
    paired = [file for file in images if file.path in pairing.mask_of]
    layout.masks = {file.path: pairing.mask_of[file.path].path for file in paired}
    _take_images(layout, paired)


def _without_unmasked_parts(
    layout: MaskLayout, images: list[PlacedFile], masked: Collection[str]
) -> list[PlacedFile]:
    """Leave out a validation or test set that has no masks at all."""
    for part in ("val", "test"):
        lone = [file.path for file in images if file.part == part]
        if lone and part not in masked:
            layout.reasons |= dict.fromkeys(lone, NO_MASK)
            layout.notes.append(
                f"note: the {TITLES[part]} set has no masks. {are(lone, 'image')} left out, and "
                "another set is drawn from the training images."
            )
            images = [file for file in images if file.part != part]
    return images


def _refuse_lone(
    layout: MaskLayout, paths: list[Path], reason: str, lack: str, *, skip_bad: bool
) -> None:
    """Report images without masks, or masks without images, or leave them out."""
    if not paths:
        return
    noun = "image" if reason == NO_MASK else "mask"
    place = f"{counted(len(paths), noun)} {'has' if len(paths) == 1 else 'have'} {lack}"
    if skip_bad:
        layout.reasons |= dict.fromkeys(paths, reason)
        layout.notes.append(
            f"warning: {place} and {'is' if len(paths) == 1 else 'are'} left out "
            f"({layout.first(paths)})."
        )
    else:
        layout.problems.append(
            f"{place} ({layout.first(paths)}). Add what is missing, or leave them out with "
            "--skip-bad."
        )


def _take_annotations(
    layout: MaskLayout, top: Folder, files: list[Path], *, skip_bad: bool
) -> None:
    """Assign the drawings of COCO files to the images."""
    _add_task(layout, _form_of_annotations(files))
    _use(layout, files)
    contents = {path: coco.read_coco(path) for path in files}
    if len({content.classes for content in contents.values()}) > 1:
        names = " and ".join(repr(path.name) for path in files)
        raise layout.refuse(
            f"the categories in {names} differ. Export all of these files with the same categories."
        )
    layout.drawn_classes = contents[files[0]].classes
    placed = {file.path: file for file in place_files(top.all_images, layout.root)}
    by_name: dict[str, list[Path]] = {}
    for path in placed:
        by_name.setdefault(path.name, []).append(path)
    images, missing, doubled = [], list[Path](), list[Path]()
    for source, content in contents.items():
        for drawing in content.drawings:
            paths = _matching(drawing, source, content, by_name, placed)
            if len(paths) != 1:
                (doubled if paths else missing).append(layout.root / drawing.file)
            elif paths[0] in layout.drawings:
                doubled.append(paths[0])
            else:
                file = placed[paths[0]]
                images.append(replace(file, part=content.part or file.part))
                layout.drawings[file.path] = drawing
    if doubled:
        layout.problems.append(
            f"{counted(len(doubled), 'image')} of the annotations can be several files, or "
            f"{'is' if len(doubled) == 1 else 'are'} listed twice ({layout.first(doubled)}). "
            "Rename the files."
        )
    _refuse_lone(layout, missing, NO_IMAGE, "no image", skip_bad=skip_bad)
    lone = [path for path in placed if path not in layout.drawings and path not in doubled]
    _refuse_lone(layout, lone, NO_MASK, "no entry in the annotations", skip_bad=skip_bad)
    _take_images(layout, images)


def _matching(
    drawing: Drawing,
    source: Path,
    content: CocoFile,
    by_name: dict[str, list[Path]],
    placed: dict[Path, PlacedFile],
) -> list[Path]:
    """Return the images that the annotations may mean.

    Images beside the annotations, or in a folder of the same part, are preferred.
    """
    name = Path(drawing.file)
    paths = [path for path in by_name.get(name.name, []) if path.as_posix().endswith(f"/{name}")]
    for preferred in (
        [path for path in paths if path.parent == source.parent / name.parent],
        [path for path in paths if content.part and placed[path].part == content.part],
    ):
        if preferred:
            return preferred
    return paths


def _take_images(layout: MaskLayout, images: list[PlacedFile]) -> None:
    """Set the parts of the layout, and the groups of the images."""
    for part in ("", *TITLES):
        if own := sorted(file.path for file in images if file.part == part):
            layout.parts[part] = [("", path) for path in own]
    _take_groups(layout, images)


def _check_parts(layout: MaskLayout) -> None:
    """Check that the parts can be told apart; images without a part are for training.

    Raises:
        DataError: there are no images for training, or only some of the images have a part.
    """
    place = repr(str(layout.root))
    if not layout.parts:
        raise layout.refuse(f"no image in {place} has a mask.")
    if "" in layout.parts:
        if len(layout.parts) > 1:
            names = " and ".join(repr(part) for part in layout.parts if part)
            paths = [path for _, path in layout.parts[""]]
            raise layout.refuse(
                f"{place} has images in {names}, but also {counted(len(paths), 'image')} outside "
                f"({layout.first(paths)}). Put all images into train/, val/ and test/, or none of "
                "them."
            )
        layout.parts = {"train": layout.parts[""]}
    if "train" not in layout.parts:
        names = " and ".join(repr(part) for part in layout.parts)
        raise layout.refuse(
            f"{place} has {names} with masks but no 'train'. Name the folder of the training set "
            "'train'."
        )
    _note_spread_groups(layout)


def _note_spread_groups(layout: MaskLayout) -> None:
    """Add a warning about groups with images in several of the folder's own parts."""
    parts_of: dict[str, set[str]] = {}
    for part, members in layout.parts.items():
        for _, path in members:
            if path in layout.groups:
                parts_of.setdefault(layout.groups[path], set()).add(part)
    if spread := sorted(group for group, parts in parts_of.items() if len(parts) > 1):
        first = ", ".join(printable(group) for group in spread[:FIRST])
        layout.notes.append(
            f"warning: {counted(len(spread), 'group has', 'groups have')} images in several sets "
            f"(first: {first}). Metrics may be too good, because similar images are trained on."
        )


def _take_groups(layout: MaskLayout, images: list[PlacedFile]) -> None:
    """Find the groups: those of `groups.csv`, or the sub-folders of the images."""
    path = layout.root / GROUPS_FILE
    if path in layout.reasons:
        _use(layout, [path])
        _read_groups(layout, path, images)
        return
    inner = {file.path: "/".join(file.inner) for file in images}
    if len(names := set(inner.values()) - {""}) > 1:
        layout.groups = {path: name for path, name in inner.items() if name}
        layout.notes.append(
            f"note: the images are in {len(names):,} sub-folders, which are groups: all images of "
            f"a sub-folder are in one set. To change that, list file,group in {GROUPS_FILE!r}."
        )


def _read_groups(layout: MaskLayout, path: Path, images: list[PlacedFile]) -> None:
    """Read the group of each image from lines `file,group`; other images are their own groups."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise layout.refuse(
            f"{path.name!r} cannot be read ({error}). Save it as UTF-8 text."
        ) from error
    group_of: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if len(cells) != 2 and cells:
            raise layout.refuse(
                f"{path.name!r}, line {number}: each line must have the form file,group (got "
                f"{printable(','.join(row))[:60]!r})."
            )
        if cells and not (number == 1 and cells[1].casefold() == "group"):
            group_of[cells[0]] = cells[1]
    used = set[str]()
    for file in images:
        names = (layout.name(file.path), file.path.name, file.path.stem)
        if name := next((name for name in names if name in group_of), ""):
            layout.groups[file.path] = group_of[name]
            used.add(name)
    if unused := sorted(group_of.keys() - used):
        first = ", ".join(printable(name) for name in unused[:FIRST])
        layout.problems.append(
            f"{path.name!r} names {counted(len(unused), 'file')} that "
            f"{'is' if len(unused) == 1 else 'are'} not among the images (first: {first}). "
            "Correct the names, or remove the lines."
        )
    ungrouped = len(images) - len(layout.groups)
    layout.notes.append(
        f"note: {path.name!r} gives {counted(len(set(layout.groups.values())), 'group')} of "
        f"images, each of which is in one set; {counted(ungrouped, 'image')} "
        f"{'is' if ungrouped == 1 else 'are'} in no group."
    )


def has_no_classes(top: Folder) -> bool:
    """True unless images are in several folders that are neither parts nor folders of images."""
    return len({file.inner for file in place_files(top.all_images, top.path)}) <= 1
