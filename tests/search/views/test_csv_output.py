"""Rows as CSV, whatever is in them."""

import csv
import io

import pytest

from search.views.csv_output import Rows, plain_text


def test_names_of_files_are_read_as_they_were_written() -> None:
    """A bare CR ends a row for whoever reads it, so it stands in quotes."""
    names = ["a\rb", "a\nb", 'a"b', "a,b", "a\r\nb", " a"]
    stream = io.StringIO(newline="")
    rows = Rows(stream, ["file", "class"])
    for name in names:
        rows.write({"file": name, "class": None})
    stream.seek(0)
    assert [row["file"] for row in csv.DictReader(stream)] == names


@pytest.mark.parametrize(
    "text", ["=1+2", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-x"]
)
def test_a_name_is_no_formula_of_a_spreadsheet(text: str) -> None:
    stream = io.StringIO(newline="")
    Rows(stream, ["file", text]).write({"file": text, text: 0.5})
    stream.seek(0)
    titles, cells = list(csv.reader(stream))
    assert [titles[1], cells[0]] == [f"'{text}"] * 2
    assert plain_text(cells[0]) == text
    assert cells[1] == "0.5"


@pytest.mark.parametrize("value", ["-1", "+1e-3", "-inf", -0.5, "a=b", "'quoted'", "", "'"])
def test_numbers_and_other_names_are_written_as_they_are(value: object) -> None:
    stream = io.StringIO(newline="")
    Rows(stream, ["value", "more"]).write({"value": value, "more": "x"})
    stream.seek(0)
    cell = list(csv.reader(stream))[1][0]
    assert cell == str(value)
    assert plain_text(cell) == cell
