"""python -m search.export NAME: write a table with a row per trial and a column per parameter."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cli.face import Face
from search.operations.export import ExportRequest, export
from search.values.option import flag, group
from search.views.csv_output import STDOUT, check_csv, csv_file_option, csv_rows
from trainables.errors import ConfigError, printable


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of the command line."""

    request: ExportRequest = group(ExportRequest)
    csv: Path | None = csv_file_option()
    json: bool = flag("write one JSON object per line instead of CSV")


def command(options: ExportOptions) -> int:
    """Write the table of trials as CSV or JSON lines, and return the exit code."""
    if options.csv is not None and options.json:
        raise ConfigError("--csv and --json cannot be combined. Leave one of them out.")
    check_csv(options.csv)
    table = export(options.request)
    if options.json:
        for row in table.rows:
            print(json.dumps({title: _plain(value) for title, value in row.items()}))
        return 0
    file = options.csv or STDOUT
    with csv_rows(file, table.columns) as rows:
        for row in table.rows:
            rows.write(row)
    if file != STDOUT:
        print(printable(str(file)))
    return 0


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON does not allow, with None."""
    return None if isinstance(value, float) and math.isnan(value) else value


FACE = Face("export", ExportOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
