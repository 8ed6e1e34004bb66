"""Tables that people write: a header, tabs between the fields, a line for each thing."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vssflow_jax.utils.errors import UserError

BEYOND = ""
"""Under this name is what a line has behind the fields of its header, with tabs between."""
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_table(
    path: Path, columns: Sequence[str], needed: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and fields of each line, empty where there is no such column or field.

    A field that is quoted as a whole, as spreadsheets and data frames write what has quotes in it,
    is read without; any other quote stands for itself, and none reaches over a tab or a line.

    Args:
      path: the table, in UTF-8, with a byte order mark or without.
      columns: names that its header may have.
      needed: the one that it must have.

    Raises:
      UserError: the table cannot be read, or its header is another one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            found = lines.fieldnames = [_plain(name) for name in lines.fieldnames or ()]
            unknown = [name for name in found if name not in columns]
            if unknown or needed not in found:
                what = f"unknown column '{unknown[0]}'" if unknown else f"no column '{needed}'"
                raise UserError(f"{path}: {what}; its header has any of {', '.join(columns)}")
            if len(set(found)) < len(found):
                raise UserError(f"{path}: its header names a column twice")
            opened = ""  # the last field of the line before, if its quote was not closed there
            for fields in lines:
                there = [x for x in fields.values() if isinstance(x, str)]
                closed = bool(there) and there[0].rstrip().endswith('"') and there[0].count('"') % 2
                last = there[-1] if there else ""
                short = last if _is_open(last) and len(there) < len(found) else ""
                if broken := short or (opened if closed else ""):
                    raise UserError(
                        f"{path}, line {lines.line_num - (not short)}: the quoted field "
                        f"{broken[:40]} goes on in the next line; put a space for the line break"
                    )
                opened = last if _is_open(last) else ""
                known = {name: _plain(fields.get(name) or "") for name in columns}
                yield lines.line_num, known | {BEYOND: "\t".join(fields.get(None) or ())}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no table in UTF-8 that can be read; {error}") from error


def _is_open(field: str) -> bool:
    """Whether a field begins with a quote that is not closed."""
    return field.lstrip().startswith('"') and field.count('"') % 2 == 1


def _plain(field: str) -> str:
    """A field as it was before it was quoted, without the space around it."""
    quoted = _QUOTED.fullmatch(field.strip())
    return (quoted[1].replace('""', '"') if quoted else field).strip()
