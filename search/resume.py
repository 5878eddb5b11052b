"""python -m search.resume NAME: go on with a search that was cut off.

It goes on from its journal and its trials' checkpoints; nothing that was finished is lost or done
again. Without a change of space, seed, data, code or libraries the search comes to the same end as
if it had never been cut off; with one it is refused, unless --allow-change says that this is meant.
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
    json: bool = flag("print the result as one JSON object, the last line")


def command(options: ResumeOptions) -> int:
    """Resume the search, which prints the result, and return the exit code."""
    return resume(options.request, as_json=options.json).exit_code


FACE = Face("resume", ResumeOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
