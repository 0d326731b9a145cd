"""An odd value concerns its row alone, unless it was damaged in transit."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import KEY
from hypothesis import example, given
from hypothesis import strategies as st
from raw_server import raw_server, response

from unify_source.api.client import Client
from unify_source.api.pages import Page, page_of
from unify_source.common.errors import ApiError, BrokenPage
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import checked_settings


def page(url: str, **settings: Any) -> Page:
    given = {"api_key": KEY, "base_url": url, "retry_budget": 4, **settings}
    return Client(checked_settings(given)).page(ENROLLMENT_LIST, ())


LISTED = [b'{"id": "1", "updated_at": "2026-01-31T08:00:0%dZ"}' % n for n in range(2)]
NO_JSON = {
    "a number with a zero before it": b'{"id": "1", "x": 01}',
    "a comma too many": b'{"id": "1", "x": [1,]}',
    "no value": b'{"id": "1", "x": }',
    "a word": b'{"id": "1", "x": undefined}',
    "an escape that is none": rb'{"id": "1", "x": "C:\Users\x"}',
    "text in the wrong quotes": b"{'id': '1'}",
    "an id of no UTF-8": b'{"id": "1\xe9", "updated_at": "2026-01-31T08:00:00Z"}',
    "a list": b"[01]",
}


@pytest.mark.parametrize("name", NO_JSON)
def test_a_page_that_comes_twice_with_the_same_invalid_row_is_accepted(name: str) -> None:
    rows = b", ".join([LISTED[0], NO_JSON[name], LISTED[1]])
    body = b'{"enrollments": [%b], "next_cursor": "c"}' % rows
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        parsed = page(server.url)

        assert len(server.asked) == 2
    assert (parsed.body, parsed.next_cursor, len(parsed.rows)) == (body, "c", 3)
    times = [each.updated for each in parsed.versions if each.key == "1"]
    assert times == ["2026-01-31T08:00:00Z", "2026-01-31T08:00:01Z"]


@pytest.mark.parametrize("text", ["a\tb\n", "\x01", "\x1f"])
def test_a_control_character_in_a_text_concerns_its_row_alone(text: str) -> None:
    body = b'{"enrollments": [{"id": "1", "x": "%b"}], "next_cursor": null}' % text.encode()
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        assert page(server.url).rows == [{"id": "1", "x": text}]

        assert len(server.asked) == 1


def test_a_byte_order_mark_before_a_page_is_ignored() -> None:
    body = b'\xef\xbb\xbf{"enrollments": [{"id": "1"}], "next_cursor": null}'
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        assert page(server.url).rows == [{"id": "1"}]

        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in</html>",
        b'{"enrollments": [{"id": "1"}',
        b'{"enrollments": [{"id": "1"}}, "next_cursor": null}',
        b'{"enrollments": [{"id": "1"} {"id": "2"}], "next_cursor": null}',
        b'{"enrollments": {"id": 01}, "next_cursor": null}',
        b'{"enrollments": [{"id": "1", "x: 1}], "next_cursor": null}',
        b'{"enrollments": [{"id": "1"}], "next_cursor": null, "enrollments": [{"id": "2"}]}',
        b'\xef\xbb\xbf{"enrollments": [], "enrollments": [{"id": "2"}], "next_cursor": null}',
        b'{"next_cursor": "a", "enrollments": [{"id": "1\xe9"}], "next_cursor": null}',
        b'{"enrollments":[],"enrollments":[],"next_cursor":null}',
        b'{"enrollments":[],"next_cursor":0,"next_cursor":"a"}',
        b'{"enrollments":[%b],"enrollments":[],"next_cursor":null}' % LISTED[0],
        rb'{"enrollment\u0073": [{"id": "1"}], "enrollments": [], "next_cursor": null}',
    ],
)
def test_an_invalid_page_is_refused_however_often_it_comes(body: bytes) -> None:
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        with pytest.raises(BrokenPage):
            page(server.url, retry_budget=2)

        assert len(server.asked) > 1


ROW = (
    b'{"id": "%d", "updated_at": "2026-01-31T08:00:00Z",'
    rb' "x": {"next_cursor": null, "enrollments": []}, "y": ",\"next_cursor\":\"a\"}"}'
)
MEMBERS = {
    "list": b'"enrollments"%b:%b[' + ROW % 1 + b"%b,%b" + ROW % 2 + b"]",
    "empty list": b'"enrollments"%b:%b[%b%b]',
    "cursor": b'"next_cursor"%b:%b"a,]}"%b%b',
    "end": rb'"next_curso\u0072"%b:%bnull%b%b',
    "total": b'"total"%b:%b[%b2%b]',
}


@example(names=["list", "cursor"], space=b"")
@example(names=["list", "empty list", "cursor"], space=b"")
@example(names=["list", "cursor", "end"], space=b"")
@given(
    names=st.lists(st.sampled_from(sorted(MEMBERS)), max_size=5),
    space=st.sampled_from([b"", b" ", b"\r\n\t"]),
)
def test_a_page_is_read_in_any_order_unless_its_list_or_cursor_is_missing_or_comes_twice(
    names: list[str], space: bytes
) -> None:
    members = (MEMBERS[name] % (space, space, space, space) for name in names)
    body = space + b"{" + space + (space + b"," + space).join(members) + space + b"}" + space
    lists, cursors = (
        [name for name in names if name in kinds]
        for kinds in ({"list", "empty list"}, {"cursor", "end"})
    )

    if len(lists) == len(cursors) == 1:
        read = page_of(body, "enrollments")
        assert [each.key for each in read.versions] == (["1", "2"] if lists == ["list"] else [])
        assert read.next_cursor == ("a,]}" if cursors == ["cursor"] else None)
    else:
        with pytest.raises(BrokenPage):
            page_of(body, "enrollments")


def test_a_row_may_have_the_names_of_its_page_as_often_as_it_likes() -> None:
    row = b'{"id": "1", "x": [{"next_cursor": 1, "enrollments": []}, "\\"enrollments\\":"]}'
    body = b'{"enrollments": [%b, %b], "next_cursor": "a"}' % (row, row)
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        parsed = page(server.url)

        assert (parsed.next_cursor, len(parsed.rows), len(server.asked)) == ("a", 2, 1)


def test_times_are_sent_as_they_are_written_and_a_cursor_as_it_came() -> None:
    body = b'{"enrollments": [], "next_cursor": null}'
    asked = [("updated_after", "2026-01-31T08:00:00.000001Z"), ("cursor", "a b+c/d=&é%3A")]
    with raw_server(lambda _, to: to.sendall(response(body))) as server:
        given = checked_settings({"api_key": KEY, "base_url": server.url})
        Client(given).page(ENROLLMENT_LIST, asked)

    [request] = server.asked
    assert b"?updated_after=2026-01-31T08:00:00.000001Z&cursor=" in request.head
    assert request.query == dict(asked)


def test_a_cursor_that_is_not_unicode_is_refused_by_name() -> None:
    body = rb'{"enrollments": [{"id": "1"}], "next_cursor": "a\ud800"}'
    with (
        raw_server(lambda _, to: to.sendall(response(body))) as server,
        pytest.raises(ApiError, match="next_cursor is not Unicode"),
    ):
        page(server.url)


@pytest.mark.parametrize("status", [102, 103])
def test_an_interim_response_is_not_the_answer(status: int) -> None:
    body = b'{"enrollments": [{"id": "1"}], "next_cursor": null}'
    interim = b"HTTP/1.1 %d Interim\r\nLink: </style.css>\r\n\r\n" % status
    with raw_server(lambda _, to: to.sendall(interim + response(body))) as server:
        assert page(server.url).rows == [{"id": "1"}]

        assert len(server.asked) == 1


def test_an_empty_content_encoding_means_none() -> None:
    body = b'{"enrollments": [{"id": "1"}], "next_cursor": null}'
    answer = response(body, Content_Encoding="")
    with raw_server(lambda _, to: to.sendall(answer)) as server:
        assert page(server.url).rows == [{"id": "1"}]
