"""Columns are selected in the order of a record's fields, under the names of the fields."""

from dataclasses import dataclass, fields

import pytest

from batches.records import CLAIM, PART, STATE, BatchPart, BatchState, ClaimedBatch
from core.db.row_mapping import columns_of
from core.db.tables.base import table_of
from core.db.tables.files import BatchRow


@dataclass(frozen=True)
class Misnamed:
    id: str
    colour: str


def test_each_record_selects_its_fields_in_order() -> None:
    for columns, record in ((STATE, BatchState), (CLAIM, ClaimedBatch), (PART, BatchPart)):
        assert [column.name for column in columns] == [field.name for field in fields(record)]


def test_the_state_leaves_out_the_bits_which_can_be_large() -> None:
    assert "done" not in {column.name for column in STATE}
    assert "done" in {column.name for column in CLAIM}


def test_a_field_without_a_column_is_refused() -> None:
    with pytest.raises(KeyError, match="colour"):
        columns_of(table_of(BatchRow), Misnamed)
