"""python -m search.report NAME: write an HTML page with the verdict, charts and all trials."""

from search.cli.face import Face
from search.operations.report import ReportRequest, report
from search.process.lifetime import leave
from trainables.errors import printable


def command(request: ReportRequest) -> int:
    """Write the report, print its path, and return the exit code."""
    print(printable(str(report(request))))
    return 0


FACE = Face("report", ReportRequest, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
