"""A line of a batch's output is one line for every reader."""

import orjson

from batches.result_lines import RequestRef
from core.errors import EngineError


def test_a_line_has_no_character_that_a_reader_may_take_for_its_end() -> None:
    text = "one\u2028two\u2029three\x85four\nfive"
    outcome = RequestRef(0, text, "batch_req_1").refused(EngineError(text))
    (line,) = outcome.line.decode().splitlines()
    shown = orjson.loads(line)
    assert shown["custom_id"] == text
    assert shown["response"]["body"]["error"]["message"] == text
