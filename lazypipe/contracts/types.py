"""Names of types in other tools, as lazypipe names them."""

from __future__ import annotations

import re

import polars as pl

from lazypipe.spec.types import dtype_from_name, dtype_name

__all__ = ["from_physical", "from_python", "logical", "strftime"]

_SQL = {
    "String": "varchar char character bpchar nvarchar nchar varchar2 nvarchar2 text string tinytext mediumtext longtext ntext "
    "clob nclob citext uuid json jsonb variant xml uniqueidentifier largeutf8 utf8 character_varying",
    "Int64": "bigint int8 long int64 bigserial",
    "Int32": "int integer int4 mediumint int32 serial",
    "Int16": "smallint int2 short int16 smallserial",
    "Int8": "tinyint byte byteint",
    "Float64": "float double float8 float64 double_precision",
    "Float32": "real float4 float32",
    "Boolean": "boolean bool bit",
    "Date": "date",
    "Time": "time time_without_time_zone",
    "Datetime(us)": "timestamp datetime datetime2 smalldatetime timestamp_ntz timestampntz timestamp_without_time_zone",
    "Datetime(us, UTC)": "timestamptz timestamp_tz timestamp_ltz timestamp_with_time_zone datetimeoffset",
    "Binary": "binary varbinary bytea blob bytes longblob image",
    "Duration(us)": "interval",
}
_PHYSICAL = {word: dtype for dtype, words in _SQL.items() for word in words.split()}


def from_physical(written: str) -> str | None:
    """Return the lazypipe type of a type in a database, or of one that lazypipe wrote; None if it is not known.

    Examples
    --------
    >>> from_physical("VARCHAR(18)"), from_physical("numeric(10, 2)"), from_physical("Datetime(us, Europe/Berlin)")
    ('String', 'Decimal(10, 2)', 'Datetime(us, Europe/Berlin)')
    >>> from_physical("array<bigint>"), from_physical("geography")
    ('List(Int64)', None)
    """
    text = written.strip()
    try:
        own = dtype_from_name(text)
    except ValueError:
        own = None
    if own is not None and dtype_name(own) == text:
        return text  # INT8 is eight bytes to a database, Int8 one to us
    if inner := re.fullmatch(r"array\s*<(.*)>", text, re.IGNORECASE) or re.fullmatch(r"(.*)\[\]", text):
        item = from_physical(inner[1])
        return item and f"List({item})"
    match = re.fullmatch(r"([a-z][\w ]*?)\s*(?:\(([^()]*)\))?((?: \w+)*)", text.lower())
    if match is None:
        return None
    head = re.sub(r"\s+", "_", match[1] + match[3])
    if head in ("decimal", "numeric", "number"):
        return _decimal(match[2])
    return _PHYSICAL.get(head)


def _decimal(arguments: str | None) -> str | None:
    digits = re.fullmatch(r"\s*(\d+)\s*(?:,\s*(\d+)\s*)?", arguments or "")
    if digits is None:
        return None
    precision, scale = int(digits[1]), int(digits[2] or 0)
    return f"Decimal({precision}, {scale})" if 0 < precision <= 38 and scale <= precision else None


# numpy, pandas, Python and Spark; databases are known already
_PYTHON = {
    "str": "String",
    "string_": "String",
    "str_": "String",
    "stringdtype": "String",
    "stringtype": "String",
    "bool_": "Boolean",
    "booleandtype": "Boolean",
    "booleantype": "Boolean",
    "integertype": "Int32",
    "longtype": "Int64",
    "shorttype": "Int16",
    "bytetype": "Int8",
    "doubletype": "Float64",
    "floattype": "Float32",
    "timestamptype": "Datetime(us)",
    "timestampntztype": "Datetime(us)",
    "datetime64[ns]": "Datetime(ns)",
    "datetime64[us]": "Datetime(us)",
    "datetime64[ms]": "Datetime(ms)",
    "timestamp": "Datetime(us)",
    "datetype": "Date",
    "binarytype": "Binary",
    "timedelta64[ns]": "Duration(ns)",
    "int": "Int64",
    "int8": "Int8",
    "categoricaldtype": "Categorical",
    "category": "Categorical",
} | {
    f"{kind}{bits}{end}": f"{own}{bits}"
    for kind, own, sizes in (
        ("int", "Int", (8, 16, 32, 64)),
        ("uint", "UInt", (8, 16, 32, 64)),
        ("float", "Float", (16, 32, 64)),
    )
    for bits in sizes
    for end in ("", "dtype")
}


def from_python(written: str) -> str | None:
    """Return the lazypipe type of a type of numpy, pandas, Python, Spark or a database; None if it is not known.

    Examples
    --------
    >>> from_python("int64"), from_python("StringType"), from_python("VARCHAR"), from_python("object")
    ('Int64', 'String', 'String', None)
    """
    spark = re.fullmatch(r"DecimalType\((.*)\)", written)
    key = written.strip().lower().removesuffix("()")
    return _decimal(spark[1]) if spark else _PYTHON.get(key) or from_physical(written)


_JDK = {
    "yyyy": "%Y",
    "uuuu": "%Y",
    "yy": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "dd": "%d",
    "DDD": "%j",
    "HH": "%H",
    "hh": "%I",
    "mm": "%M",
    "ss": "%S",
    "a": "%p",
    "Z": "%z",
    "XX": "%z",
    "XXX": "%:z",
    "EEE": "%a",
    "EEEE": "%A",
    "T": "T",  # no pattern letter, but the standard's own examples write it
}
_FRACTION = {".SSS": "%.3f", ".SSSSSS": "%.6f", ".SSSSSSSSS": "%.9f"}


def strftime(jdk: str) -> str | None:
    """Return a date format of the JDK as strftime writes it; None if there is none.

    Examples
    --------
    >>> strftime("yyyy-MM-dd'T'HH:mm:ss.SSS"), strftime("dd.MM.yy"), strftime("QQQ yyyy")
    ('%Y-%m-%dT%H:%M:%S%.3f', '%d.%m.%y', None)
    """
    out = []
    for part in re.finditer(r"'((?:[^']|'')*)'|\.S+|([A-Za-z])\2*|.", jdk, re.DOTALL):
        text = part.group()
        if part[1] is not None:
            out.append(part[1].replace("''", "'").replace("%", "%%") or "'")
        elif text in _FRACTION or text in _JDK:
            out.append(_FRACTION.get(text) or _JDK[text])
        elif part[2] is not None or text.startswith(".S"):
            return None
        else:
            out.append(text.replace("%", "%%"))
    return "".join(out)


def logical(dtype: pl.DataType) -> tuple[str | None, dict[str, object]]:
    """Return the logical type of ODCS for a Polars type, and its options; None where ODCS has none.

    Examples
    --------
    >>> logical(pl.Int16()), logical(pl.Datetime("us", "Europe/Berlin"))
    (('integer', {'format': 'i16'}), ('timestamp', {'timezone': True, 'defaultTimezone': 'Europe/Berlin'}))
    """
    match dtype:
        case pl.String() | pl.Categorical() | pl.Enum():
            return "string", {}
        case pl.Date():
            return "date", {}
        case pl.Datetime():
            zone = dtype.time_zone
            return "timestamp", {"timezone": True, "defaultTimezone": zone} if zone else {}
        case pl.Time():
            return "time", {}
        case pl.Boolean():
            return "boolean", {}
        case pl.List() | pl.Array():
            return "array", {}
        case pl.Struct():
            return "object", {}
        case pl.Float32() | pl.Float64():
            return "number", {"format": f"f{str(dtype)[5:]}"}
        case _ if dtype.is_integer():
            return "integer", {"format": str(dtype).lower().replace("int", "i").replace("ui", "u")}
        case _ if dtype.is_numeric():
            return "number", {}
    return None, {}
