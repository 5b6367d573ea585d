"""Server-sent events on the wire."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sse import parse_sse
from wire.sse import frame
from wire.views.job import numbered


def test_a_frame_has_id_event_and_data() -> None:
    assert frame(b"{}", event="delta", seq=3) == b"id: 3\nevent: delta\ndata: {}\n\n"
    assert frame(b"[DONE]") == b"data: [DONE]\n\n"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_data_is_split_at_the_standards_line_ends(end: bytes) -> None:
    assert frame(b"a" + end + b"b") == b"data: a\ndata: b\n\n"


@given(st.text())
def test_any_text_survives_as_json(text: str) -> None:
    (event,) = parse_sse(frame(orjson.dumps({"text": text}), seq=1).decode())
    assert event.json == {"text": text}


@given(st.text(alphabet=st.sampled_from('a\x85\u2028\u2029\n\r\x0b\x0c\x1c\x1d\x1e"\\é€水')))
def test_a_reader_that_splits_at_unicodes_line_ends_finds_the_same_lines(text: str) -> None:
    framed = frame(orjson.dumps({text: [text]}), event="delta", seq=1).decode()
    assert framed.splitlines() == framed.split("\n")[:-1]
    (event,) = parse_sse(framed)
    assert event.json == {text: [text]}


@given(
    st.text(
        alphabet=st.characters(exclude_characters="\0\x85\u2028\u2029", exclude_categories=["Cs"])
    )
)
def test_any_text_survives_unescaped_but_for_its_line_ends(text: str) -> None:
    (event,) = parse_sse(frame(b"x" + text.encode()).decode())
    assert event.data == "x" + text.replace("\r\n", "\n").replace("\r", "\n")


@given(
    st.integers(1, 2**50),
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key != "sequence_number"), st.integers(0, 9)
    ),
)
def test_numbering_adds_one_field(seq: int, data: dict[str, int]) -> None:
    assert orjson.loads(numbered(seq, orjson.dumps(data))) == {"sequence_number": seq, **data}
    spaced = orjson.dumps(data, option=orjson.OPT_INDENT_2)
    assert orjson.loads(numbered(seq, b" " + spaced)) == {"sequence_number": seq, **data}
