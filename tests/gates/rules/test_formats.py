"""The rule format: each standard by examples and against a naive oracle written on its own."""

from __future__ import annotations

import ipaddress
import re
import string
import uuid
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

CAPITALS, DIGITS, HEX = string.ascii_uppercase, string.digits, string.hexdigits
WORD = string.ascii_letters + string.digits


def rule(name: str) -> dict[str, Any]:
    return {"format": {"column": "a", "is": name}}


EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "email": (
        ["a@b.co", "first.last+tag@sub.example.com", "o'neil@x-y.org", "!#$%&'*+/=?^_`{|}~-@b.xn--p1ai", "1@2.c3",
         "x" * 64 + "@b.co", "a@" + "b" * 63 + ".co", "a@" + ("b" * 49 + ".") * 5 + "co"],
        ["", "a", "@b.co", "a@", "a@b", "a@b.", "a@.co", "a@b..co", ".a@b.co", "a.@b.co", "a..b@b.co", "a b@b.co", "a@b@c.co",
         "a@-b.co", "a@b-.co", "a@b.1", "a@1.2.3.4", "a@[1.2.3.4]", '"a"@b.co', "ä@b.co", "a@ä.co", " a@b.co", "a@b.co ",
         "a@b.co\n", "a@b_c.co", "x" * 65 + "@b.co", "a@" + "b" * 64 + ".co", "a@" + ("b" * 49 + ".") * 5 + "com", "a\0@b.co"],
    ),
    "uuid": (
        ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff", str(uuid.UUID(int=2**100))],
        ["", "0" * 32, "00000000-0000-0000-0000-00000000000", "{00000000-0000-0000-0000-000000000000}",
         "g0000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000\n", "000000000-000-0000-0000-000000000000"],
    ),
    "url": (
        ["http://a", "https://user:pw@example.com:8080/p/a%20th?q=1&r=a/b?#frag/?", "ftp://1.2.3.4/", "s3://bucket/key",
         "http://[::1]:80/", "http://[v1.a:b]/", "http://a?q", "http://a#f", "http://a:/", "x+y-1.z://h", "http://ex%C3%A4mple/",
         "http://a//b", "http://a/;p=1,2", "http://@a"],
        ["", "http://", "//a", "a", "http:a", "mailto:a@b.co", "file:///x", "http:///x", "http://a b", "http://a/ä", "http://a/%2",
         "http://a/%zz", "http://[::1", "http://[1.2.3.4]/", "http://[:::]/", "1http://a", "http://a:8a", "http://a/[", "http://a/?#f#g",
         "http://a\n", " http://a", 'http://a/"', "http://a@b@c", "http://[v.a]/"],
    ),
    "ipv4": (
        ["0.0.0.0", "255.255.255.255", "127.0.0.1", "10.20.30.200"],
        ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.", "1.2.3.4 ", "1.2.3.-4", "a.b.c.d", "1.2.3.4/8", "1,2,3,4", "١.2.3.4"],
    ),
    "ipv6": (
        ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8", "1:2::7:8", "fe80::ABCD", "::ffff:1.2.3.4",
         "1:2:3:4:5:6:1.2.3.4", "1::1.2.3.4", "64:ff9b::192.0.2.33", "1:2:3:4:5::1.2.3.4"],
        ["", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "1::2::3", "12345::", "g::",
         "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "::1.2.3.256", "::01.2.3.4", "1.2.3.4", ":1", "1:", "::1%eth0", "[::1]", "::1/128", "1.2.3.4::"],
    ),
    "iban": (
        ["DE89370400440532013000", "GB29NWBK60161331926819", "NO9386011117947", "MT84MALT011000012345MTLCAST001S",
         "FR1420041010050500013M02606", "LC55HEMM000100010012001200023015", "BR1800360305000010009795493C1", "SA0380000000608010167519"],
        ["", "DE88370400440532013000", "DE8937040044053201300", "DE893704004405320130000", "de89370400440532013000", "DE89 3704 0044 0532 0130 00",
         "D189370400440532013000", "DEA9370400440532013000", "DE89", "GB29NWBK60161331926818", "NO938601111794", "GB29NWBK6016133192681é"],
    ),
    "bic": (["DEUTDEFF", "DEUTDEFF500", "NEDSZAJJXXX"], ["", "DEUTDEF", "DEUTDEFF50", "DEUTDEFF5000", "deutdeff", "DEUT1EFF"]),
    "lei": (["529900T8BM49AURSDO55", "HWUPKR0MPOU8FGXBT394"], ["", "529900T8BM49AURSDO56", "529900T8BM49AURSDO5", "529900t8bm49aursdo55"]),
    "luhn": (
        ["18", "4539578763621486", "79927398713", "00", "0000000000000000000", "9999999999999999998", "378282246310005"],
        ["", "0", "5", "19", "79927398710", "4539578763621487", "4539 5787 6362 1486", "-18", "+18", "1" * 20, "9" * 19, "1a", "١٨"],
    ),
    "mac": (["00-1A-2b-3C-4D-5E", "ff:ff:ff:ff:ff:ff"], ["", "001A2B3C4D5E", "00-1A-2B-3C-4D", "00-1A:2B-3C-4D-5E", "001A.2B3C.4D5E", "g0-1A-2B-3C-4D-5E", "00-1A-2B-3C-4D-5E-6F"]),
    "hostname": (
        ["a", "localhost", "3com", "a-b.c-d", "1.2.3.4a", "xn--mnchen-3ya.de", "A" * 63, ("a" * 49 + ".") * 5 + "abc"],
        ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a_b", "a b", "1.2.3.4", "5", "a.5", "A" * 64, ("a" * 49 + ".") * 5 + "abcd", "ä", "a\n"],
    ),
    "isbn13": (
        ["9780306406157", "978-0-306-40615-7", "979-12-200-0852-5", "9791220008525"],
        ["", "9780306406158", "978-0306406157", "978-0-306-40615-8", "9770306406157", "978 0 306 40615 7", "0306406152", "978--0-306-4061-5", "97803064061570",
         "978-0-306-406155-7"],
    ),
    "ean13": (["4006381333931", "0000000000000", "9780306406157"], ["", "4006381333932", "400638133393", "40063813339310", "4006381-333931", "+006381333931"]),
    "e164": (["+14155552671", "+12", "+123456789012345"], ["", "14155552671", "+0415555", "+1", "+1234567890123456", "+1 415", "+1-415", "+１２"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(violations: Any, name: str) -> None:
    good, bad = EXAMPLES[name]
    assert violations(good, rule(name)) == [False] * len(good)
    assert violations(bad, rule(name)) == [True] * len(bad)
    assert violations([good[0], bad[-1], None], rule(name), dtype=pl.Categorical) == [False, True, False]
    assert violations([None, None], rule(name), dtype=pl.String) == [False, False]
    assert violations([None], rule(name), dtype=pl.Null) == [False]
    assert violations([], rule(name), dtype=pl.String) == []
    # nothing around it, and nothing in it that ends a text for others
    around = [f"{good[0]}{end}" for end in ("\n", " ", "\0", "\t")] + [f" {good[0]}"]
    assert violations(around, rule(name)) == [True] * len(around)


# oracles


def label(text: str) -> bool:
    return 0 < len(text) < 64 and set(text) <= {*WORD, "-"} and text[0] != "-" != text[-1]


def hostname(text: str) -> bool:
    parts = text.split(".")
    return len(text) <= 253 and all(map(label, parts)) and not set(parts[-1]) <= set(DIGITS)


def email(text: str) -> bool:
    local, at, domain = text.partition("@")
    atoms = local.split(".")
    fine = all(atom and set(atom) <= {*WORD, *"!#$%&'*+/=?^_`{|}~-"} for atom in atoms)
    return bool(at) and fine and len(local) <= 64 and len(text) <= 254 and "." in domain and hostname(domain)


def ip(kind: Any) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return "%" not in text

    return check


def check97(text: str) -> bool:
    return int("".join(str(int(c, 36)) for c in text)) % 97 == 1


def iban(text: str) -> bool:
    form = 4 < len(text) < 35 and set(text) <= {*CAPITALS, *DIGITS} and text[:2].isalpha() and text[2:4].isdigit()
    known = {"DE": 22, "NO": 15, "MT": 31, "LC": 32, "GB": 22}
    return form and len(text) == known.get(text[:2], len(text)) and check97(text[4:] + text[:4])


def lei(text: str) -> bool:
    return len(text) == 20 and set(text) <= {*CAPITALS, *DIGITS} and text[18:].isdigit() and check97(text)


def luhn(text: str) -> bool:
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(text))]
    return 2 <= len(text) <= 19 and sum(d // 10 + d % 10 for d in doubled) % 10 == 0


def ean13(text: str) -> bool:
    return len(text) == 13 and sum(int(d) * (1 + 2 * (i % 2)) for i, d in enumerate(text)) % 10 == 0


def url(text: str) -> bool:
    def made_of(part: str, more: str) -> bool:
        bare = re.sub(r"%[0-9a-fA-F]{2}", "", part)
        return set(bare) <= {*WORD, *"-._~!$&'()*+,;=", *more}

    rest, _, fragment = text.partition("#")
    rest, _, query = rest.partition("?")
    scheme, divided, rest = rest.partition("://")
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    if host.startswith("["):
        inner, closed, port = host[1:].partition("]")
        named = bool(closed) and (port == "" or port[0] == ":") and ip(ipaddress.IPv6Address)(inner)
        port = port[1:]
    else:
        host, _, port = host.partition(":")
        named = bool(host) and made_of(host, "")
    return (
        bool(divided) and scheme[:1].isalpha() and set(scheme) <= {*WORD, *"+-."} and made_of(user, ":") and named
        and set(port) <= set(DIGITS) and made_of(path, ":@/") and made_of(query, ":@/?") and made_of(fragment, ":@/?")
    )  # fmt: skip


def mixed(*parts: str) -> Any:
    return st.lists(st.sampled_from(parts), max_size=12).map("".join)


groups = st.lists(st.sampled_from(["0", "1", "ab", "FFFF", "12345", "", "g", "1.2.3.4"]), max_size=9)
HOST = ("a", "b", "-", ".", "1", "_", "x" * 62, "é")

ORACLES: dict[str, tuple[Callable[[str], bool], Any]] = {
    "hostname": (hostname, mixed(*HOST)),
    "email": (email, st.tuples(mixed("a", ".", "+", "'", " ", "x" * 31, '"'), st.sampled_from(["@", "@", "@", "", "@@"]), mixed(*HOST, ".co")).map("".join)),
    "ipv4": (ip(ipaddress.IPv4Address), st.lists(st.sampled_from(["0", "00", "01", "9", "99", "199", "249", "255", "256", "1000", "", " 1"]), min_size=3, max_size=5).map(".".join) | st.ip_addresses(v=4).map(str)),
    "ipv6": (ip(ipaddress.IPv6Address), groups.map(":".join) | st.ip_addresses(v=6).map(str)),
    "iban": (iban, st.tuples(st.sampled_from(["DE", "NO", "MT", "LC", "GB", "ZZ", "d1"]), st.text(DIGITS, min_size=2, max_size=2), st.text(CAPITALS + DIGITS, max_size=31)).map("".join)),
    "lei": (lei, st.text(CAPITALS + DIGITS, min_size=17, max_size=19).flatmap(lambda s: st.text(DIGITS, min_size=2, max_size=2).map(s.__add__))),
    "luhn": (luhn, st.text(DIGITS, max_size=21)),
    "ean13": (ean13, st.text(DIGITS, min_size=12, max_size=14)),
    "isbn13": (lambda t: ean13(t) and t[:3] in ("978", "979"), st.tuples(st.sampled_from(["977", "978", "979"]), st.text(DIGITS, min_size=9, max_size=11)).map("".join)),
    "url": (url, st.tuples(mixed("http", "a+", "1", "-", "é"), st.sampled_from(["://", "://", ":", "//"]), mixed("u:p@", "@", "a", "[::1]", "[", "]", ":", "80", "%41", "%4", " "), mixed("/", "a", "?", "#", "%41", "%", "[", "@", ":", "é")).map("".join)),
    "uuid": (lambda t: bool(t.isascii() and len(t) == 36 and [i for i, c in enumerate(t) if c == "-"] == [8, 13, 18, 23] and set(t) <= {*HEX, "-"}), st.uuids().map(str) | st.tuples(st.uuids().map(str), st.integers(0, 35), st.sampled_from("-gG0A")).map(lambda x: x[0][: x[1]] + x[2] + x[0][x[1] + 1 :])),
    "mac": (lambda t: any(len(p := t.split(s)) == 6 and all(len(x) == 2 and set(x) <= set(HEX) for x in p) for s in "-:"), st.tuples(st.lists(st.sampled_from(["00", "aF", "g0", "1"]), min_size=5, max_size=7), st.sampled_from("-:.")).map(lambda x: x[1].join(x[0]))),
    "e164": (lambda t: t[:1] == "+" and t[1:].isascii() and t[1:].isdigit() and t[1:2] != "0" and 2 <= len(t) - 1 <= 15, st.tuples(st.sampled_from(["", "+", "+1", "++"]), st.text(DIGITS, max_size=16)).map("".join)),
    "bic": (lambda t: len(t) in (8, 11) and set(t) <= {*CAPITALS, *DIGITS} and set(t[4:6]) <= set(CAPITALS), st.text("ABZ019a", min_size=7, max_size=12)),
}  # fmt: skip


def test_every_standard_has_its_oracle() -> None:
    assert ORACLES.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", ORACLES)
@given(data=st.data())
def test_formats_equal_the_oracle(violations: Any, name: str, data: Any) -> None:
    valid, texts = ORACLES[name]
    values = data.draw(st.lists(st.none() | texts, max_size=15))
    assert violations(values, rule(name), dtype=pl.String) == [v is not None and not valid(v) for v in values]


def with_check(body: str, places: int, valid: Callable[[str], bool], at_end: bool) -> list[str]:
    """Of all check digits, those that fit; the oracle says which."""
    made = []
    for n in range(10**places):
        digits = f"{n:0{places}}"
        text = body + digits if at_end else body[:2] + digits + body[2:]
        if valid(text):
            made.append(text)
    return made


@given(st.text(DIGITS, min_size=12, max_size=12), st.text(CAPITALS + DIGITS, min_size=18, max_size=18))
def test_one_check_digit_fits_and_the_others_do_not(violations: Any, digits: str, letters: str) -> None:
    for name, body, places, at_end in (
        ("ean13", digits, 1, True),
        ("luhn", digits, 1, True),
        ("lei", letters, 2, True),
        ("iban", "DE" + letters, 2, False),
    ):
        fit = with_check(body, places, ORACLES[name][0], at_end)
        every = with_check(body, places, lambda _: True, at_end)
        assert fit
        assert violations(every, rule(name)) == [text not in fit for text in every]


def test_an_unknown_standard_is_refused(refusal: Any) -> None:
    frame = pl.DataFrame(schema={"a": pl.String})
    assert refusal(frame, rule("e-mail")) == "unknown is 'e-mail'; did you mean 'email'?"
