"""Tables as people, spreadsheets and data frames write them."""

import csv
from pathlib import Path
from typing import Any

import pytest

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.tables import BEYOND, read_table

COLUMNS = ("clip_id", "caption", "voice")
ROWS = [
    ("a", 'A man says "hello", then a dog barks', "ann"),
    ("b", '"Quoted as a whole"', ""),
    ("c", 'a 7" record; 日本', "ben"),
    ("d", "'single', plain", ""),
]
WRITERS: dict[str, dict[str, Any]] = {
    "as data frames write": {"quoting": csv.QUOTE_MINIMAL},
    "as spreadsheets write": {"quoting": csv.QUOTE_MINIMAL, "lineterminator": "\r\n"},
    "all quoted": {"quoting": csv.QUOTE_ALL},
    "as people write": {"quoting": csv.QUOTE_NONE, "quotechar": None},
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("how", WRITERS)
def test_what_others_write_is_read(how: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    with path.open("w", encoding=encoding, newline="") as file:
        table = csv.writer(file, delimiter="\t", **{"lineterminator": "\n"} | WRITERS[how])
        table.writerows([COLUMNS, *ROWS])
    found = [fields for _, fields in read_table(path, COLUMNS, needed="clip_id")]
    whole = ROWS[1][1] if how != "as people write" else "Quoted as a whole"
    expected = [ROWS[0], ("b", whole, ""), *ROWS[2:]]
    assert [tuple(fields[name] for name in COLUMNS) for fields in found] == expected
    assert not any(fields[BEYOND] for fields in found)


@pytest.mark.parametrize(
    "rows",
    [
        'a\t"Hello there,\nhow are you?"\nb\tx\n',  # Alt and Enter in a spreadsheet
        'a\t"Hello there,\nhow are you?"\n',
    ],
)
@pytest.mark.parametrize("columns", [("clip_id", "caption"), ("clip_id", "caption", "voice")])
def test_a_line_break_in_a_quoted_field_is_an_error(
    rows: str, columns: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "t.tsv").write_text("\t".join(columns) + "\n" + rows)
    with pytest.raises(UserError, match=r"line 2: the quoted field \"Hello there, goes on"):
        list(read_table(tmp_path / "t.tsv", columns, "clip_id"))


def test_a_quote_that_nobody_closes_costs_its_own_field_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('clip_id\tcaption\na\t"Hello," she said\nb\t"rain\nc\tx"\n')
    found = [fields["caption"] for _, fields in read_table(tmp_path / "t.tsv", COLUMNS, "clip_id")]
    assert found == ['"Hello," she said', '"rain', 'x"']
