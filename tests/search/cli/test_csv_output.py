"""Rows as CSV, whatever is in them."""

import csv
import io

from search.cli.csv_output import Rows


def test_names_of_files_are_read_as_they_were_written() -> None:
    """A bare CR ends a row for whoever reads it, so it stands in quotes."""
    names = ["a\rb", "a\nb", 'a"b', "a,b", "a\r\nb", " a"]
    stream = io.StringIO(newline="")
    rows = Rows(stream, ["file", "class"])
    for name in names:
        rows.write({"file": name, "class": None})
    stream.seek(0)
    assert [row["file"] for row in csv.DictReader(stream)] == names
