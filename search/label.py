"""python -m search.label PLACE: serve a page on which people correct the answers of a model.

PLACE is where python -m search.serve stores what it receives (--record): a folder, or
s3://BUCKET/PREFIX. The most useful images come first: those on which answers disagree, those of
which the model is not sure, and those unlike any other. The keyboard is enough for everything.
"Right as it is" is stored too: it counts as much as a correction.
"""

from dataclasses import dataclass

from search.cli.face import Face
from search.operations.label import LabelRequest, label, opened_in_browser
from search.values.option import flag, group
from search.views.terminal import Terminal, say
from trainables.errors import counted


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """The options of the command line."""

    request: LabelRequest = group(LabelRequest)
    browser: bool = flag("do not open a browser", default=True, name="no-browser")


def command(options: LabelOptions) -> int:
    """Print the address of the page, serve it until it is stopped, and return the exit code."""
    console = Terminal()
    with label(options.request) as page:
        images = counted(page.progress.left, "image")
        corrected = page.progress.corrected
        say(
            console,
            f"{page.labelling.info.model}: {images} left to correct, {corrected} already corrected",
        )
        say(console, f"label the images at {page.address} (press Ctrl-C to stop the server)")
        if page.is_reachable:
            say(console, "note: everyone who has this address can see the images and correct them")
        try:
            with opened_in_browser(page.address, should_open=options.browser):
                page.serve()
        finally:
            say(console, f"{counted(page.progress.here, 'image')} corrected")
    return 0


FACE = Face("label", LabelOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
