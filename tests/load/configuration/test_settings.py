"""Each setting accepts the documented values, and refuses others by name."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import redacted, shown
from unify_source.common.settings import (
    ID_FILTERS,
    STATUSES,
    Settings,
    checked_settings,
)
from unify_source.common.times import parse_range, parse_time

UTC = timezone.utc
INTEGERS = {
    "page_size": (1, 100),
    "workers": (1, 64),
    "requests_per_5min": (1, 100_000_000),
    "window_rows": (100, 10_000_000),
    "max_body_bytes": (1 << 10, 1 << 30),
    "max_cursor_length": (64, 1 << 16),
    "max_idle_pages": (2, 1_000_000),
    "max_row_bytes": (1 << 10, 1 << 28),
    "max_depth": (4, 250),
    "max_new_columns": (0, 1_000),
}

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def checked(**given: Any) -> Settings:
    return checked_settings({"api_key": "a-key", **given})


def value_of(name: str, **given: Any) -> Any:
    settings = checked(**given)
    return getattr(settings.limits if name.startswith("max_") else settings, name)


def refusal(**given: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        checked(**given)
    assert caught.value.exit_code == 2
    assert caught.value.next_step
    return caught.value


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=zones))  # noqa: DTZ001 - the zone is given apart
def test_a_time_is_the_same_instant_as_text_and_as_a_datetime(moment: datetime) -> None:
    for value in (moment, moment.isoformat(), moment.isoformat().replace("+00:00", "Z")):
        read = parse_time("start", value)
        assert read == moment
        assert read.utcoffset() == timedelta(0)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - what is meant
def test_without_an_offset_a_time_is_utc(moment: datetime) -> None:
    for value in (moment, moment.isoformat(), moment.isoformat(sep=" ")):
        assert parse_time("start", value) == moment.replace(tzinfo=UTC)


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)))
def test_a_date_is_its_midnight_in_utc(day: date) -> None:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for value in (day, day.isoformat(), f" {day.isoformat()} "):
        assert parse_time("start", value) == midnight


@given(st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_a_range_of_dates_begins_with_the_first_day_and_ends_with_the_whole_of_the_last(
    day: date,
) -> None:
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for value in (day, day.isoformat(), f" {day.isoformat()} "):
        assert parse_range(value, value) == (first, first + timedelta(days=1, microseconds=-1))


@pytest.mark.parametrize(
    "value", ["2026-03-31T00:00:00Z", "2026-03-31 00:00", datetime(2026, 3, 31, tzinfo=UTC)]
)
def test_a_range_of_times_ends_at_its_instant_even_at_midnight(value: str | datetime) -> None:
    assert parse_range(value, value)[1] == datetime(2026, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize("nothing", ["", " "])
def test_an_empty_end_is_refused_and_a_missing_one_is_open(nothing: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_range("2026-03-31", nothing)

    assert f"end is {nothing!r}" in caught.value.what
    assert parse_range("2026-03-31", None)[1] is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-02-30",
        "2026-13-01",
        "2026-01-31T25:00:00Z",
        "31.01.2026",
        "P1D",
        "x",
        "0:",
        "2026-03",
        "2026",
        "2026-W05",
        "12:30",
        "now",
        "2026-01-31/2026-02-28",
        "2026-01-31 0:",
    ],
)
def test_an_invalid_time_is_refused_with_its_name_and_value(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_time("--from", text)

    assert "--from" in caught.value.what
    assert repr(text) in caught.value.what


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_does_not_exist_in_utc_is_refused_with_its_name_and_value(text: str) -> None:
    for value in (text, datetime.fromisoformat(text)):
        with pytest.raises(ConfigurationError) as caught:
            parse_time("--from", value)

        assert "--from" in caught.value.what
        assert repr(str(value)) in caught.value.what


def test_a_start_in_the_year_1_is_refused() -> None:
    assert "start is '0001-01-01'" in refusal(start="0001-01-01").what


@given(st.text(max_size=12) | st.text(max_size=12).map("2026-01-31".__add__))
def test_any_text_is_either_a_time_or_refused(text: str) -> None:
    try:
        read = parse_time("start", text)
    except ConfigurationError as refused:
        message = refused.what
    else:
        message = f"{shown(text)} is {read.astimezone(UTC)}"

    assert redacted(shown(text)) in redacted(message)


@given(st.sampled_from(sorted(INTEGERS)), st.integers(-(10**12), 10**12), st.booleans())
def test_whole_numbers_within_their_limits_are_accepted(
    name: str,
    value: int,
    as_text: bool,  # noqa: FBT001 - drawn
) -> None:
    low, high = INTEGERS[name]
    text_given = str(value) if as_text else value
    if low <= value <= high:
        assert value_of(name, **{name: text_given}) == value
    else:
        what = refusal(**{name: text_given}).what
        assert name in what
        assert str(value) in what


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [True, "", "1.5", 2.5, "ten", "1e1"])
def test_anything_but_a_whole_number_is_refused(name: str, value: Any) -> None:
    assert name in refusal(**{name: value}).what


@given(st.sampled_from(["request_timeout", "retry_budget", "max_response_seconds"]), st.floats())
def test_seconds_are_above_zero_and_at_most_a_day(name: str, value: float) -> None:
    if 0 < value <= 86_400:
        assert value_of(name, **{name: value}) == value
    else:
        what = refusal(**{name: value}).what
        assert name in what
        assert str(value) in what


@given(st.integers(0, 8_000), st.sampled_from(["s", "m", "h", "d", ""]), st.sampled_from(["", " "]))
def test_a_lookback_is_a_number_with_a_unit(number: int, unit: str, gap: str) -> None:
    expected = number * {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "": 1}[unit]
    text_given = f"{number}{gap}{unit}"
    if expected <= 366 * 86_400:
        assert checked(lookback=text_given).lookback == timedelta(seconds=expected)
    else:
        assert repr(text_given) in refusal(lookback=text_given).what


@pytest.mark.parametrize("value", ["-1m", "ten minutes", "5w", "", "nan", "inf", timedelta(-1)])
def test_an_invalid_duration_is_refused(value: Any) -> None:
    what = refusal(lookback=value).what

    assert "lookback" in what
    assert str(value) in what


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"workers": "many"}, "which is not a whole number."),
    ({"workers": 2.5}, "which is not a whole number."),
    ({"workers": True}, "which is not a whole number."),
    ({"workers": "65"}, "which is out of range."),
    ({"workers": -1}, "which is out of range."),
    ({"max_new_columns": "1" * 5_000}, "which is out of range."),
    ({"retry_budget": "long"}, "which is not a number of seconds."),
    ({"retry_budget": "nan"}, "which is not a number of seconds."),
    ({"retry_budget": 0}, "which is out of range."),
    ({"retry_budget": "inf"}, "which is out of range."),
    ({"table_format": "hudi"}, "which is not one of its values."),
    ({"status": "DONE"}, "which is not one of its values."),
    ({"lookback": "5w"}, "which is not a duration of up to a year."),
    ({"person_id": "me"}, "which is not an id of Unify's."),
    ({"base_url": "api"}, "which is not the address of an API."),
    ({"base_url": "http://x.test"}, "over plain http, others could read the key."),
]


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_a_value_is_refused_with_the_reason(wrong: dict[str, Any], reason: str) -> None:
    refused = refusal(**wrong)

    [(name, value)] = wrong.items()
    assert refused.what.startswith(f"{name} is '{str(value)[:100]}")
    assert refused.what.endswith(reason)


@given(st.sampled_from(ID_FILTERS), st.uuids())
def test_ids_are_accepted_in_any_spelling(name: str, wanted: UUID) -> None:
    for text_given in (wanted, str(wanted), str(wanted).upper(), f" {wanted} "):
        assert checked(**{name: text_given}).filters == ((name, str(wanted)),)


@given(st.sampled_from(ID_FILTERS), st.text(max_size=20))
def test_an_invalid_id_is_refused(name: str, value: str) -> None:
    what = refusal(**{name: value}).what

    assert what.startswith(f"{name} is ")
    assert redacted(shown(value)) in what


@given(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=6))
def test_statuses_are_accepted_in_any_order_and_case_and_repeated(wanted: list[str]) -> None:
    expected = tuple(("status", status) for status in sorted(set(wanted)))
    for text_given in (wanted, ",".join(wanted), [", ".join(wanted)], [s.lower() for s in wanted]):
        assert checked(status=text_given).filters == expected


@given(st.sampled_from(STATUSES), st.text("ABC_", min_size=4, max_size=9))
def test_an_unknown_status_is_refused(known: str, unknown: str) -> None:
    what = refusal(status=[known, unknown]).what

    assert "status" in what
    assert repr(unknown) in what


@pytest.mark.parametrize(
    "url",
    [
        "https://api.unifygtm.com",
        "https://proxy.example.com:8443/unify",
        "http://127.0.0.1:8100",
        "http://127.9.9.9",
        "http://localhost:8100",
        "http://[::1]:8100",
    ],
)
def test_https_and_loopback_addresses_are_accepted(url: str) -> None:
    assert checked(base_url=f" {url}/ ").base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.unifygtm.com",
        "http://10.0.0.5",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "api.unifygtm.com",
        "ftp://api.unifygtm.com",
        "https://x.test?key=1",
        "https://x.test#part",
        "https://exa mple.com",
        "https://x.test:99999",
        "https://*.x.test",
        "https://[x.test",
        "https://x..test",
        f"https://{'x' * 64}.test",
        f"https://{'x.' * 127}test",
        "",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    what = refusal(base_url=url).what

    assert "base_url" in what
    assert url[:100] in what


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    assert "hunter2" not in str(refusal(base_url="https://me:hunter2@x.test"))
    assert "hunter2" not in str(refusal(base_url="ftp://me:hunter2@x.test"))


@given(printable)
def test_a_key_is_trimmed_and_never_shown(key: str) -> None:
    settings = checked_settings({"api_key": f"  {key}\n"})

    assert settings.api_key == key
    assert f"api_key='{key}'" not in repr(settings)
    assert "api_key" not in repr(settings)


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_a_missing_key_is_reported_with_where_to_set_it(key: str | None) -> None:
    refused = refusal(api_key=key)

    assert "no API key" in refused.what
    assert "UNIFY_API_KEY" in refused.next_step


@given(printable, st.sampled_from([" ", "\n", "\t", "\x00", "é", "“"]), printable)
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(
    one: str, odd: str, other: str
) -> None:
    # No part of it may be a part of the setting's name, which would not be shown either.
    refused = refusal(api_key=f"{one}7zq{odd}7zq{other}")

    assert "api_key" in refused.what
    assert f"7zq{odd}7zq" not in str(refused)


def test_an_omitted_setting_has_the_documented_default() -> None:
    assert checked() == Settings(
        api_key="a-key",
        base_url="https://api.unifygtm.com",
        filters=(),
        start=None,
        lookback=timedelta(minutes=10),
        page_size=100,
        workers=8,
        requests_per_5min=100_000,
        window_rows=200_000,
        request_timeout=60.0,
        retry_budget=900.0,
        table_format="delta",
    )
