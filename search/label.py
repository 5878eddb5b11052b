"""python -m search.label PLACE: serve a page on which people give images their class.

PLACE is a folder of images, or where python -m search.serve stores what it receives (--record): a
folder, or s3://BUCKET/PREFIX.

The images of a folder are copied into a folder for each class, on which python -m search.run then
trains. The images that are typical of many others come first. For the validation and the test set,
images are drawn at random.

For the images that a model has received, its answers are corrected. The most useful images come
first: those on which answers disagree, those of which the model is not sure, and those unlike any
other. "Right as it is" is stored too: it counts as much as a correction.

With --suspicious, PLACE is a folder with a sub-folder for each class, and the labels that are
probably wrong are checked. Corrections go to PLACE.corrections.csv, which search.run and
search.data then use; nothing in PLACE changes.

The keyboard is enough for everything.
"""

from dataclasses import dataclass

from search.cli.face import Face
from search.operations.label import LabelRequest, label, opened_in_browser
from search.values.option import flag, group
from search.views.terminal import Terminal, say
from trainables.errors import counted, printable


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """The options of the command line."""

    request: LabelRequest = group(LabelRequest)
    browser: bool = flag("do not open a browser", default=True, name="no-browser")


def command(options: LabelOptions) -> int:
    """Print the address of the page, serve it until it is stopped, and return the exit code."""
    console = Terminal()
    with label(options.request) as page:
        words, progress = page.labelling.purpose, page.progress
        say(
            console,
            f"{printable(page.labelling.subject)}: {counted(progress.left, 'image')} left to "
            f"{words.verb.lower()}, {progress.corrected} already {words.participle}",
        )
        say(console, f"label the images at {page.address} (press Ctrl-C to stop the server)")
        if page.is_reachable:
            say(
                console,
                "note: everyone who has this address can see the images and "
                f"{words.verb.lower()} them",
            )
        try:
            with opened_in_browser(page.address, should_open=options.browser):
                page.serve()
        finally:
            say(console, f"{counted(page.progress.here, 'image')} {words.participle}")
            if page.progress.corrected and (step := page.labelling.purpose.next_step):
                say(console, step)
    return 0


FACE = Face("label", LabelOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
