"""The rule ``format``: text that follows a standard, checksums included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import one_of, text
from lazypipe.spec.arguments import COLUMN, arg, choice
from lazypipe.spec.scope import Scope

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"


def _ipv6() -> str:
    part = "[0-9A-Fa-f]{1,4}"
    last = f"(?:{part}:{part}|{_IPV4})"
    forms = [f"(?:{part}:){{6}}{last}", f"::(?:{part}:){{5}}{last}"]
    # "::" stands for one group of zeros or more: the more groups before it, the fewer after it
    forms += [f"(?:(?:{part}:){{0,{n}}}{part})?::(?:{part}:){{{4 - n}}}{last}" for n in range(5)]
    forms += [f"(?:(?:{part}:){{0,5}}{part})?::{part}", f"(?:(?:{part}:){{0,6}}{part})?::"]
    return f"(?:{'|'.join(forms)})"


_IPV6 = _ipv6()


def _url() -> str:
    plain, coded = r"A-Za-z0-9._~!$&'()*+,;=\-", "%[0-9A-Fa-f]{2}"
    future = rf"v[0-9A-Fa-f]+\.[{plain}:]+"
    host = rf"(?:\[(?:{_IPV6}|{future})\]|(?:[{plain}]|{coded})+)"
    path = f"(?:/(?:[{plain}:@]|{coded})*)*"
    query, fragment = (rf"(?:{sign}(?:[{plain}:@/?]|{coded})*)?" for sign in (r"\?", "#"))
    return rf"^[A-Za-z][A-Za-z0-9+.-]*://(?:(?:[{plain}:]|{coded})*@)?{host}(?::[0-9]*)?{path}{query}{fragment}$"


_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_MAIL = rf"^{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}$"

# how long an IBAN is, from the IBAN registry (ISO 13616)
_IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}


def _iban(column: pl.Expr) -> pl.Expr:
    length = column.str.len_bytes()
    country = column.str.head(2)
    lengths = {name: size for size, names in _IBAN_LENGTHS.items() for name in names.split()}
    fits = length == country.replace_strict(lengths, default=length, return_dtype=pl.UInt32)
    form = column.str.contains("^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$")
    return form & fits & _mod97(pl.concat_str(column.str.slice(4), column.str.head(4)))


def _mod97(column: pl.Expr) -> pl.Expr:
    """Return whether ISO 7064 MOD 97-10 holds; null for what is not up to 36 letters and digits."""
    letters = [chr(ord("A") + i) for i in range(26)]
    digits = column.str.replace_many(letters, [str(10 + i) for i in range(26)])
    # in two halves, each of which an Int128 holds
    low = digits.str.tail(36).cast(pl.Int128, strict=False) % 97
    high = (digits.str.head(-36).cast(pl.Int128, strict=False) % 97).fill_null(0)
    return (low + high * pow(10, 36, 97)) % 97 == 1


def _pairs(column: pl.Expr, count: int) -> list[pl.Expr]:
    """Return a number's digits, two by two from the right; null for what is not a number."""
    number = column.cast(pl.UInt64, strict=False)
    return [((number // 100**i) % 100).cast(pl.UInt16) for i in range(count)]


def _luhn(column: pl.Expr) -> pl.Expr:
    # with p = 10t + u, the digits of u and of 2t add up to p + 2t, and one more from t = 5 on (modulo 10)
    terms = [p + p // 10 * 2 + (p >= 50).cast(pl.UInt16) for p in _pairs(column, 10)]
    return column.str.contains("^[0-9]{2,19}$") & (pl.sum_horizontal(*terms, ignore_nulls=False) % 10 == 0)


def _ean13(column: pl.Expr) -> pl.Expr:
    # with p = 10t + u, u and 3t add up to p + 3t (modulo 10)
    terms = [p + p // 10 * 3 for p in _pairs(column, 7)]
    return column.str.contains("^[0-9]{13}$") & (pl.sum_horizontal(*terms, ignore_nulls=False) % 10 == 0)


def _isbn13(column: pl.Expr) -> pl.Expr:
    form = column.str.contains("^97[89](?:[0-9]{10}|-[0-9]{1,5}-[0-9]{1,7}-[0-9]{1,6}-[0-9])$")
    return form & _ean13(column.str.replace_all("-", "", literal=True))


def _names_host(column: pl.Expr) -> pl.Expr:
    return ~column.str.contains(r"(?:^|[.@])[0-9]+$")  # a name that ends in a number would be an address


def _email(column: pl.Expr) -> pl.Expr:
    short = (column.str.len_bytes() <= 254) & (column.str.find("@", literal=True) <= 64)
    return column.str.contains(_MAIL) & short & _names_host(column)


def _hostname(column: pl.Expr) -> pl.Expr:
    form = column.str.contains(rf"^{_LABEL}(?:\.{_LABEL})*$")
    return form & (column.str.len_bytes() <= 253) & _names_host(column)


def _matching(pattern: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda column: column.str.contains(pattern)


_FORMATS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "bic": _matching("^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?$"),
    "e164": _matching(r"^\+[1-9][0-9]{1,14}$"),
    "ean13": _ean13,
    "email": _email,
    "hostname": _hostname,
    "iban": _iban,
    "ipv4": _matching(f"^{_IPV4}$"),
    "ipv6": _matching(f"^{_IPV6}$"),
    "isbn13": _isbn13,
    "lei": lambda column: column.str.contains("^[A-Z0-9]{18}[0-9]{2}$") & _mod97(column),
    "luhn": _luhn,
    "mac": _matching("^[0-9A-Fa-f]{2}(?:(?:-[0-9A-Fa-f]{2}){5}|(?::[0-9A-Fa-f]{2}){5})$"),
    "url": _matching(_url()),
    "uuid": _matching("^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"),
}


@dataclass(frozen=True)
class Format(Rule):
    """The whole text must have a standard format, without white space around it. Null passes.

    The form is checked, and the check digits if the standard has any; whether the thing exists is not.

    - ``bic``: ISO 9362, 8 or 11 capital letters and digits.
    - ``e164``: a telephone number by ITU-T E.164, ``+`` and 2 to 15 digits.
    - ``ean13``: GS1 GTIN-13, 13 digits including a check digit.
    - ``email``: a mailbox by RFC 5321 (4.1.2) with a dot-string and a domain of two labels or more, ASCII, up to 64 octets
      before the @ and 254 in total (4.5.3.1); no quoted strings, address literals or comments.
    - ``hostname``: RFC 1123 (2.1): labels of letters, digits and inner hyphens, up to 63 characters each and 253 in total, the last one
      not a number; no dot at the end.
    - ``iban``: ISO 13616, electronic form (capital letters, no spaces), check digits by ISO 7064 MOD 97-10, and the length that the
      IBAN registry gives for the country, if it lists the country.
    - ``ipv4``: four decimal octets without leading zeros (RFC 3986, 3.2.2).
    - ``ipv6``: RFC 4291 (2.2) with ``::`` and an embedded IPv4 address; no zone.
    - ``isbn13``: ISO 2108, 13 digits, or five groups of them with hyphens, including a check digit.
    - ``lei``: ISO 17442, 20 capital letters and digits, check digits by ISO 7064 MOD 97-10.
    - ``luhn``: 2 to 19 digits including a check digit, as on payment cards (ISO/IEC 7812-1, Annex B).
    - ``mac``: EUI-48 of IEEE 802, six pairs of hexadecimal digits, separated by hyphens only or by colons only.
    - ``url``: a URI by RFC 3986 with a scheme and a host, which may be an address; ASCII.
    - ``uuid``: RFC 9562 (4), 8-4-4-4-12 hexadecimal digits, upper or lower case; any version.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"format": {"column": "a", "is": "iban"}}]
    >>> lp.check(pl.DataFrame({"a": ["DE89370400440532013000", "DE88370400440532013000", None]}), rules).failed
    {'format:a': 1}
    """

    name: ClassVar[str] = "format"
    column: str = arg(COLUMN, "The text column to check.")
    is_: str = arg(choice(*_FORMATS), "The standard.")

    def __post_init__(self) -> None:
        """Check that the standard is known."""
        super().__post_init__()
        one_of(self.is_, _FORMATS, "is")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: not of the form, or with a wrong checksum."""
        valid = _FORMATS[self.is_](text(self.column, schema, scope))
        return [self.check(self.column, schema, scope, violated=~valid, column=self.column)]
