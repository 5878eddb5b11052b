"""python -m search.why NAME TRIAL: print the history of one trial.

The history includes what suggested it, what it reached, which trials it was compared with when it
was stopped, and its retries.
"""

from search.cli.face import Face
from search.operations.why import WhyRequest, why
from search.views.text.story import beside_guessing, story_of
from trainables.errors import printable


def command(request: WhyRequest) -> int:
    """Print the history of the trial, and return the exit code."""
    story = why(request)
    print(f"{story.trial} of {request.name}")
    for line in story_of(story.events, story.trial, story.history):
        print(printable(line))
    if note := beside_guessing(story.result, story.trial):
        print(printable(note))
    return 0


FACE = Face("why", WhyRequest, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
