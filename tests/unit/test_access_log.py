"""Reading a web server's log, in both formats, and the shape of the one that is generated."""

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from local.access_log import LogError, Request, generate_log, read_log

APACHE = (
    '83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /images/kibana.png HTTP/1.1" 200 203023 '
    '"http://semicomplete.com/" "Mozilla/5.0 (Macintosh)"'
)
NGINX = (
    '2001:db8::8a2e:370:7334 - ann [17/May/2015:12:05:01 +0200] "GET / HTTP/2.0" 304 0 "-" "-" "-"'
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def a_row(**fields: object) -> str:
    row: dict[str, object] = {"line": 0, "offset_s": 0, "customer": "cus_a", "bytes": 1}
    return json.dumps(row | fields)


def refusal(log: Path, *lines: str) -> str:
    log.write_text("\n".join(lines))
    with pytest.raises(LogError) as refused:
        read_log(log)
    return str(refused.value)


# --- combined format ------------------------------------------------------------------------------


def test_apaches_and_nginxs_lines_are_requests_at_offsets_from_the_earliest(log: Path) -> None:
    log.write_text(f"{APACHE}\n{NGINX}\n")

    first, second = read_log(log)

    assert (first.line, first.offset_s, first.bytes) == (0, 2, 203023)
    assert (second.line, second.offset_s, second.bytes) == (1, 0, 0)


def test_a_clients_address_never_becomes_a_customers_name(log: Path) -> None:
    log.write_text(f"{APACHE}\n{NGINX}\n{APACHE}\n")

    names = [request.customer for request in read_log(log)]

    assert names[0] == names[2] != names[1]
    assert all(name.startswith("cus_") and len(name) == 18 for name in names)
    assert not any(part in "".join(names) for part in ("83.149", "2001", "8a2e"))


def test_a_response_without_a_body_has_no_bytes(log: Path) -> None:
    log.write_text(APACHE.replace("203023", "-"))

    assert [request.bytes for request in read_log(log)] == [0]


def test_a_quote_in_a_request_line_stands_escaped_as_apache_writes_it(log: Path) -> None:
    log.write_text(APACHE.replace("/images/", r"/a\"b\\/"))

    assert [request.bytes for request in read_log(log)] == [203023]


def test_the_common_format_without_referer_and_agent_is_read_too(log: Path) -> None:
    log.write_text(APACHE.partition(' "http')[0])

    assert [request.bytes for request in read_log(log)] == [203023]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n  \n"])
def test_lines_end_as_they_like(log: Path, ending: str) -> None:
    log.write_bytes((ending.join([APACHE, NGINX]) + ending).encode())

    assert len(read_log(log)) == 2


def test_bytes_that_are_no_text_spoil_nothing(log: Path) -> None:
    log.write_bytes(APACHE.encode().replace(b"/images/", b"/\xff\xfe/") + b"\n")

    assert [request.bytes for request in read_log(log)] == [203023]


def test_a_line_in_no_format_is_refused_by_its_number_in_the_file(log: Path) -> None:
    message = refusal(log, APACHE, "", "hello there", NGINX)

    assert message == "line 3 is neither JSON nor combined log format: 'hello there'"


@pytest.mark.parametrize(
    "time", ["17/Mai/2015:10:05:03 +0000", "32/May/2015:10:05:03 +0000", "17/May/2015:10:05:03"]
)
def test_a_line_whose_time_does_not_exist_is_refused_by_its_number(log: Path, time: str) -> None:
    message = refusal(log, NGINX, APACHE.replace("17/May/2015:10:05:03 +0000", time))

    assert message == f"line 2 has no such time: [{time}]"


# --- JSON lines -----------------------------------------------------------------------------------


def test_json_lines_are_requests_in_the_files_order(log: Path) -> None:
    log.write_text(
        a_row(line=8, offset_s=40, customer="cus_b", bytes=0, status=304, method="GET")
        + "\n\n"
        + a_row(line=7, offset_s=3, bytes=1024)
    )

    assert read_log(log) == [Request(8, 40, "cus_b", 0), Request(7, 3, "cus_a", 1024)]


def test_a_gzipped_log_is_known_by_its_content(log: Path) -> None:
    log.write_bytes(gzip.compress(a_row(bytes=5).encode()))

    assert read_log(log) == [Request(0, 0, "cus_a", 5)]


def test_only_a_line_feed_ends_a_line(log: Path) -> None:
    path = "/\u2028/\x85"
    row = a_row(path="HERE").replace("HERE", path)
    log.write_text(f"{row}\n{a_row(line=1)}")

    assert [request.line for request in read_log(log)] == [0, 1]


def test_a_customer_that_stripe_would_not_know_gets_a_pseudonym(log: Path) -> None:
    log.write_text(a_row(customer="alice") + "\n" + a_row(line=1, customer="cus_bob"))

    alice, bob = (request.customer for request in read_log(log))

    assert alice.startswith("cus_")
    assert "alice" not in alice
    assert bob == "cus_bob"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting property name"),
        ("17", "TypeError"),
        ('{"line": 1}', "KeyError('customer')"),
        (a_row(line=1, bytes=None), "bytes is None"),
        (a_row(line=1, bytes=1.5), "bytes is 1.5"),
        (a_row(line=1, bytes=-1), "bytes is -1"),
        (a_row(line=1, bytes=float("inf")), "bytes is inf"),
        (a_row(line=1, offset_s=-1), "offset_s is -1"),
        (a_row(line=True), "line is True"),
        (a_row(line=1, customer=""), "customer is ''"),
        (a_row(line=1, customer=None), "customer is None"),
    ],
)
def test_a_json_line_that_is_no_request_is_refused_by_its_number(
    log: Path, line: str, said: str
) -> None:
    message = refusal(log, a_row(), "", line)

    assert message.startswith("line 3 is not a request: ")
    assert said in message
    assert message.endswith("it needs line, offset_s, customer and bytes")


def test_two_requests_with_one_number_are_refused_since_one_would_not_count(log: Path) -> None:
    message = refusal(log, a_row(line=4), a_row(line=5), a_row(line=4, bytes=2))

    assert message == ("line 3 has the same `line` as line 1: 4; number the requests differently")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n  \n", gzip.compress(b"", mtime=0)])
def test_an_empty_log_is_refused(log: Path, content: bytes) -> None:
    log.write_bytes(content)

    with pytest.raises(LogError, match=r"access\.log holds no requests$"):
        read_log(log)


def test_a_log_that_is_not_there_is_refused(log: Path) -> None:
    with pytest.raises(LogError, match=r"cannot read .*access\.log: No such file or directory$"):
        read_log(log)


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="Is a directory"):
        read_log(tmp_path)


@pytest.mark.parametrize("length", [5, 20, -4])
def test_half_a_gzip_file_is_refused(log: Path, length: int) -> None:
    log.write_bytes(gzip.compress(a_row().encode())[:length])

    with pytest.raises(LogError, match=r"access\.log is no whole gzip file: "):
        read_log(log)


# --- the generated log ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated() -> Sequence[Request]:
    return generate_log()


def share(part: int, whole: int) -> float:
    return round(part / whole, 2)


def test_the_generated_log_is_as_large_as_the_real_one_and_numbered(
    generated: Sequence[Request],
) -> None:
    assert len({request.line for request in generated}) == len(generated) == 7_000
    assert len({request.customer for request in generated}) == 1_302
    assert min(request.offset_s for request in generated) < 60
    assert 57 * 3600 <= max(request.offset_s for request in generated) < 58 * 3600


def test_its_clients_are_as_unequal_as_real_ones(generated: Sequence[Request]) -> None:
    requests = [n for _, n in Counter(one.customer for one in generated).most_common()]

    assert [share(sum(requests[:top]), 7_000) for top in (1, 5, 10)] == [0.05, 0.15, 0.20]
    assert share(sum(n <= 2 for n in requests), 1_302) == pytest.approx(0.5, abs=0.02)


def test_its_responses_are_as_unequal_as_real_ones(generated: Sequence[Request]) -> None:
    sizes = sorted(request.bytes for request in generated)
    largest = sizes[-70:]

    assert share(sum(size == 0 for size in sizes), 7_000) == 0.08
    assert sizes[3_500] == pytest.approx(10_000, rel=0.2)
    assert sizes[6_300] == pytest.approx(55_000, rel=0.2)
    assert sizes[6_930] == pytest.approx(1_200_000, rel=0.5)
    assert 10_000_000 < sizes[-1] <= 69_000_000
    assert share(sum(largest), sum(sizes)) > 0.6, "one in a hundred carries most of the bytes"


def test_its_lines_are_out_of_order_by_less_than_a_minute(generated: Sequence[Request]) -> None:
    back = [before.offset_s - after.offset_s for before, after in pairwise(generated)]
    earlier = [by for by in back if by > 0]

    assert share(len(earlier), 7_000) == pytest.approx(0.49, abs=0.02)
    assert max(earlier) <= 59


def test_one_seed_makes_one_log(generated: Sequence[Request]) -> None:
    assert generate_log(1) == generated
    assert generate_log(2) != generated
