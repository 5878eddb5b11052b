"""The file of groups: what it must have, and which images it must name."""

import re

import pytest

from trainables.errors import DataError
from trainables.fairness.groups import MAX_VALUES, check_images, read_attributes

TABLE = "image,sex,age\na/1.png,f,old\na/2.png,m,old\nb/3.png,f,old\nb/4.png,m,young\n"


@pytest.fixture
def write(tmp_path):
    def write_text(text, encoding="utf-8"):
        path = tmp_path / "groups.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write_text


def test_groups_are_the_combinations_that_occur(write):
    attributes = read_attributes(write(TABLE))
    assert attributes.titles == ("sex", "age")
    assert attributes.groups == (("f", "old"), ("m", "old"), ("m", "young"))
    assert attributes.numbers(["b/4.png", "a/1.png", "other"]).tolist() == [2, 0, -1]
    assert attributes.name(2) == "sex=m, age=young"
    assert attributes.values("sex") == {"f": [0], "m": [1, 2]}
    assert attributes.values("age") == {"old": [0, 1], "young": [2]}


def test_a_spreadsheets_file_is_read(write):
    text = TABLE.replace("\n", "\r\n") + "\r\n"
    assert read_attributes(write(text, "utf-8-sig")) == read_attributes(write(TABLE))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1 of '{}' (--groups) has the columns ''"),
        ("image\na\n", "line 1 of '{}' (--groups) has the columns 'image'"),
        ("file,sex\na,f\n", "line 1 of '{}' (--groups) has the columns 'file,sex'"),
        ("image,sex,sex\na,f,f\n", "line 1 of '{}' (--groups) has the column 'sex' twice"),
        ("image,sex\na,f\nb\n", "line 3 of '{}' (--groups) has 1 values, but there are 2 columns"),
        ("image,sex\na,f\na,m\n", "line 3 of '{}' (--groups) repeats the image 'a'"),
        ("image,sex\na, \n", "line 2 of '{}' (--groups) has no value for 'sex'"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(write, text, problem):
    path = write(text)
    with pytest.raises(DataError, match=f"^{re.escape(problem.format(path))}"):
        read_attributes(path)


def test_an_attribute_with_a_value_for_every_image_is_refused(write):
    rows = "".join(f"{number}.png,{number}\n" for number in range(MAX_VALUES + 1))
    with pytest.raises(DataError, match=r"column 'id' of .* has 51 values, .* at most 50"):
        read_attributes(write("image,id\n" + rows))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"the groups '.*none.csv' \(--groups\) cannot be read"):
        read_attributes(tmp_path / "none.csv")


def test_every_image_needs_a_line_and_every_line_an_image(write):
    path = write(TABLE)
    attributes, images = read_attributes(path), ["a/1.png", "a/2.png", "b/3.png", "b/4.png"]
    check_images(path, attributes, images)
    check_images(path, attributes, images[:3], omitted={"b/4.png"})
    with pytest.raises(DataError, match=r"no line for 1 image of the data set, such as 'c\.png'"):
        check_images(path, attributes, [*images, "c.png"])
    with pytest.raises(DataError, match=r"1 line for files that are not images .*'b/4\.png'"):
        check_images(path, attributes, images[:3])
