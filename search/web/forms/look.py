"""python -m search.web.forms.look DATA: print a preview of a data set as JSON.

It takes the options of `search.data`. It runs as a child process of the server, since images take
much memory.
"""

import base64
import json
import sys
from dataclasses import dataclass

from search.cli.face import Face
from search.operations.data import DataRequest, config_of
from search.preflight.first_step import few_photographs
from trainables.inspection.leaks import load_inspected
from trainables.inspection.pictures import picture
from trainables.inspection.report import DataReport, report_of
from trainables.tasks import TASKS


@dataclass(frozen=True)
class DataPreview:
    """A preview of a data set, which a page shows before a search."""

    report: DataReport
    picture: str
    """Sample images of each class, as a PNG file in base64."""
    few_photographs: bool
    """True if there are so few photographs that pretrained weights are a better start."""

    @classmethod
    def of(cls, text: str) -> "DataPreview":
        """Parse the JSON that `command` prints."""
        document = json.loads(text)
        report = DataReport.from_json(document["report"])
        return cls(report, document["picture"], document["few_photographs"])


def command(request: DataRequest) -> int:
    """Inspect the data, print the preview, and return the exit code."""
    config = config_of(request)
    inspected = load_inspected(config, download=request.reading.download)
    report = report_of(inspected, config)
    document = {
        "report": report.to_json(),
        "picture": base64.b64encode(picture(report, inspected)).decode(),
        "few_photographs": few_photographs(TASKS[config.task], inspected.dataset),
    }
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


FACE = Face("data", DataRequest, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
