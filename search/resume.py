"""python -m search.resume NAME: continue a search that was cut off.

It continues from the journal and the checkpoints of the trials; nothing that was finished is lost
or done again. If the space, the seed, the data, the code and the libraries are unchanged, the
search has the same result as without the interruption. If one of them has changed, the command is
refused, unless --allow-change is passed.
"""

from dataclasses import dataclass

from search.cli.face import Face
from search.operations.resume import ResumeRequest, resume
from search.process.lifetime import leave
from search.values.option import flag, group


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """The options of the command line."""

    request: ResumeRequest = group(ResumeRequest)
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: ResumeOptions) -> int:
    """Resume the search, print its result, and return the exit code."""
    return resume(options.request, as_json=options.json).exit_code


FACE = Face("resume", ResumeOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
