"""Wrong definitions, each with its exact message: file:line:column, what is wrong; what to write instead.

``@`` in a definition marks the place that the message must name; it is taken out before the definition is read.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe import ops
from lazypipe.spec.document import parse

HEAD = """\
version: 1
name: p
params:
  since: {type: date, default: 2013-01-01}
sources:
  flights:
    uri: flights.csv
    contract:
      columns:
        origin: String
        tailnum: String
        flight: Int64
        delay: Float64
        late: Boolean
        time_hour: Datetime(us, UTC)
        stops: List(String)
        place: "Struct(lat: Float64, lon: Float64)"
  planes:
    uri: planes.csv
    contract: {columns: {tailnum: String, seats: Int64, built: Int64}}
stages:
  s:
    from: flights
"""
TAIL = "\noutputs:\n  s: {to: out/s}\n"


def expect(folder: Path, marked: str, *messages: str, file: str = "pipeline.yaml", **options: Any) -> None:
    """Load and compile; what is raised must be just these messages, at the marks."""
    *parts, last = marked.split("@")
    places = ["".join(parts[: i + 1]) for i in range(len(parts))]
    text = "".join(parts) + last
    (folder / file).write_text(text, encoding="utf-8")
    wanted = [
        f"{file}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: {message}"
        for before, message in zip(places, messages, strict=True)
    ]
    with pytest.raises(lp.DefinitionError) as caught:
        lp.load(file).compile(env={}, **options)
    assert [str(p) for p in caught.value.problems] == wanted
    # nothing is shown of what it was found with
    assert len(re.findall("^Traceback", "".join(traceback.format_exception(caught.value)), re.MULTILINE)) == 1


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cases(table: dict[str, str]) -> pytest.MarkDecorator:
    ids = [re.sub(r"[^\w\s:.,(){}<>+*/=-]", "", text)[:70] for text in table]
    return pytest.mark.parametrize(("marked", "message"), table.items(), ids=ids)


NO_DELY = "unknown column 'dely'; did you mean 'delay'?"
NO_ORIGN = "unknown column 'orign'; did you mean 'origin'?"
NO_TAILNM = "unknown column 'tailnm'; did you mean 'tailnum'?"
CAST = "cast one of them, as in x::double or x::text"

OPERATIONS = {
    # the step itself
    "@fitler: delay > 1": "unknown operation 'fitler'; did you mean 'filter'?",
    "@{filter: delay > 1, drop: origin}": (
        "one operation has one key, its name; this has 'filter' and 'drop'; start each operation with its own dash; its arguments go below its name, indented"
    ),
    "@{}": "this operation is empty; write name: arguments",
    "@distinct": "'distinct' is not an operation; write name: arguments",
    "@5": "5 is not an operation; write name: arguments",
    "@null": "null is not an operation; write name: arguments",
    "@[filter]": "a list is not an operation; write name: arguments",
    # arguments
    "filter: {@conditoin: delay > 1}": "unknown argument 'conditoin' of filter; did you mean 'condition'?",
    "join: {with: planes, on: tailnum, @hwo: left}": "unknown argument 'hwo' of join; did you mean 'how'?",
    "aggregate: {@bye: origin, aggregate: {n: count(*)}}": "unknown argument 'bye' of aggregate; did you mean 'by'?",
    "@join: {on: tailnum}": "'with' is missing in 'join'; add with: the other source or stage",
    "@rank: {order_by: delay}": "'as' is missing in 'rank'; add as: the name of the new column",
    "@aggregate: {by: origin}": (
        "'aggregate' is missing in 'aggregate'; add aggregate: new column → SQL aggregate, such as count(*) or avg(x)"
    ),
    "@filter: true": "'filter' must be text, not true; put it in quotes: \"true\"",
    "@filter:": "'filter' must be text, not null; write a SQL condition",
    "@filter: ''": "'filter' is empty; write a SQL condition",
    "@filter: [late]": "'filter' must be text, not a list; write a SQL condition",
    "@drop: 5": "'drop' must be text or a list, not 5; put it in quotes: \"5\"",
    "@join: planes": "'join' must be a mapping, not 'planes'; write join: {with: …}",
    "@limit: ten": "'limit' must be a whole number, not 'ten'; write the number of rows to keep",
    "@limit: '10'": "'limit' must be a whole number, not '10'; write it without quotes: 10",
    "@limit: 1_000": "'limit' must be a whole number, not '1_000'; write it in digits: 1000",
    "@limit: 1.0": "'limit' must be a whole number, not 1.0; write the number of rows to keep",
    "@limit: -1": "'limit' is -1, less than 0; write 0 or more",
    "sample: {@fraction: 1.5}": "'fraction' is 1.5, more than 1; write 1 or less",
    "join: {with: planes, on: tailnum, @nulls_equal: yes}": (
        "'nulls_equal' must be true or false, not 'yes'; write whether null keys match each other"
    ),
    "join: {with: planes, on: tailnum, @how: lef}": "'how' cannot be 'lef'; did you mean 'left'?",
    "join: {with: planes, on: tailnum, @how: outer}": "'how' cannot be 'outer'; here that is called 'full'",
    "join: {with: planes, on: tailnum, @how: both}": (
        "'how' cannot be 'both'; known values: anti, cross, full, inner, left, right, semi"
    ),
    "cast: {columns: {flight: Int32}, @on_error: null}": "'on_error' cannot be null; put it in quotes: \"null\"",
    # SQL
    "@filter: dely > 1": NO_DELY,
    "filter: {@condition: dely > 1}": NO_DELY,
    "@filter: tailnum + 1 > 2": f"cannot calculate with String and a whole number; {CAST}",
    "@filter: flight = 'AA'": f"String cannot be compared with Int64; {CAST}",
    "@filter: time_hour > 'yesterday'": (
        "a date or time cannot be compared with text; write DATE '2013-01-31' or TIMESTAMP '2013-01-31 12:00:00'"
    ),
    "@filter: time_hour > TIMESTAMP '2013-01-31 12:00:00'": (
        "Datetime(us, UTC) cannot be compared with Datetime(us) (>); both need a time zone, or neither"
    ),
    "@filter: flight IN ('AA')": "Int64 cannot be looked for among String; write values of the same type",
    "@filter: time_hour IN ('2013-01-31')": (
        "Datetime(us, UTC) cannot be looked for among String; write values of the same type, such as DATE '2013-01-31'"
    ),
    "@filter: late AND flight": (
        "AND takes conditions, and these are Boolean and Int64; compare each side with something"
    ),
    "@filter: flight LIKE '1%'": "Int64 stands where String is needed; cast it, as in x::text",
    "derive: {@a: date(time_hour)}": (
        "'time_hour' is Datetime(us, UTC), and String is needed; cast it, as in time_hour::text; or write x::date, x::timestamp or x::time for date(x), "
        "timestamp(x) or time(x), which read text"
    ),
    "derive: {@a: 'nvl(delay, 0)'}": "unknown function 'nvl'; write coalesce(x, y)",
    "rename: {@number: flight}": "unknown column 'number'; rename is from the old name to the new one: write flight: number",
    "select: [late, @'flight + 1 AS next']": "unknown column 'flight + 1 AS next'; to name what is selected write a mapping: {next: flight + 1}",
    "derive: {@a: mean(delay)}": "unknown function 'mean'; write avg(x)",
    "derive: {@a: \"date_trunk('day', time_hour)\"}": "unknown function 'date_trunk'; did you mean 'date_trunc'?",
    "derive: {@a: flight / tailnum}": "cannot divide with String; cast one of them, as in x::double or x::text",
    "@filter: flight > 1 && late": "bad SQL: && is not an operator here; write AND",
    "derive: {@a: flight ^ 2}": "bad SQL: ^ is not an operator here; write pow(a, b) for powers",
    "@filter: tailnum = NULL": "nothing is = NULL, not even NULL; write IS NULL",
    "@filter: tailnum == null OR late": "nothing is = NULL, not even NULL; write IS NULL",
    "@filter: late AND tailnum <> NULL": "nothing is <> NULL, whatever it is; write IS NOT NULL",
    "@filter: tailnum != /* none */ NULL": "nothing is != NULL, whatever it is; write IS NOT NULL",
    "@filter: flight > ${LEAST}": "$ cannot be used here in SQL; write a parameter as :name, text as 'text'",
    "window: {time: time_hour, @every: 60, aggregate: {n: count(*)}}": (
        "'every' must be text or a list, not 60; say of what: 60s, 60m, 60h or 60d"
    ),
    "derive: {@a: 'DateDiff(''day'', time_hour, time_hour)'}": "unknown function 'datediff'; write b - a",
    "@filter: tailnum SIMILAR TO 'N%'": (
        "SIMILAR TO is not an expression of Polars' SQL; write it by comparisons, CASE and functions, or as a join or a python step"
    ),
    "@filter: (tailnum, origin) = ('a', 'b')": (
        "(a, b) is not an expression of Polars' SQL; write it by comparisons, CASE and functions, or as a join or a python step"
    ),
    "@filter: flight + 1": "a condition must be true or false, and this is Int64; compare it with something",
    "@filter: flight >": ("bad SQL: 'flight >' is not a whole expression; check its operators, brackets and commas"),
    "@filter: (flight > 1": (
        "bad SQL: '(flight > 1' is not a whole expression; check its operators, brackets and commas"
    ),
    "@filter: SELECT 1": ("bad SQL: SELECT starts a query, not an expression; write an expression, or a sql operation"),
    "@filter: select 1": ("bad SQL: select starts a query, not an expression; write an expression, or a sql operation"),
    "@filter: order > 1": (
        'bad SQL: order starts a clause of a query, not an expression; write "order" in double quotes, if a column is meant'
    ),
    "@filter: user = 'x'": 'user is a word of SQL; write "user" in double quotes, if a column is meant',
    '@filter: "late; DROP TABLE x"': "bad SQL: ';' is not expected here; write one expression",
    "@filter: fligt(flight) > 1": (
        "unknown function 'fligt'; use one of Polars SQL, such as coalesce, round, upper or date_part"
    ),
    "@filter: tailnum = 'x": "unclosed ' in SQL; close the quote",
    "@filter: now() > time_hour": (
        "now would read the machine's clock; write :now, the time of the run, which the caller can set"
    ),
    "@filter: read_csv('x') > 1": "read_csv() would read a file unseen by the plan; declare it as a source",
    "@filter: flight > (SELECT max(seats) FROM planes)": (
        "'planes' cannot be read inside an expression; join it first, or write a sql operation"
    ),
    "@filter: EXISTS (SELECT 1)": (
        "a query cannot be used inside an expression; join what it reads, or write a sql operation"
    ),
    "@filter: flight IN (SELECT 1)": (
        "a query cannot be used inside an expression; join what it reads, or write a sql operation"
    ),
    "@filter: date(time_hour AT TIME ZONE 'UTC') > :since": (
        "AT TIME ZONE has to be told whether time_hour has a zone; "
        "write CAST(time_hour AS TIMESTAMP), or CAST(time_hour AS TIMESTAMPTZ) if it has one"
    ),
    "@filter: time_hour > :sinse": "unknown parameter :sinse; did you mean 'since'?",
    "@filter: date_trunc('huor', time_hour) > :since": "date_trunc has no unit 'huor'; did you mean 'hour'?",
    "@filter: date_trunc('hour', flight) > :since": (
        "date_trunc needs a date or a datetime, and flight is Int64; write date_trunc('hour', flight::timestamp)"
    ),
    # derive
    "derive: {@a: dely + 1}": NO_DELY,
    "derive: {columns: {@a: dely + 1}}": NO_DELY,
    "derive: {a: delay + 1, @b: a + 1}": (
        "column 'a' is computed in the same derive; move what uses it into a second derive below"
    ),
    "derive: {@a: tailnum * 2}": f"cannot calculate with String and a whole number; {CAST}",
    "derive: {@a: upper(flight)}": "'flight' is Int64, and String is needed; cast it, as in flight::text",
    "derive: {@a: 'date_part(''hour'', flight)'}": "hour is not possible for Int64; cast it first, as in x::double",
    "derive: {@a: year(tailnum)}": "year is not possible for String; read the text first, as in date(x) or timestamp(x)",
    "derive: {@a: hour(time_hour::date)}": "hour is not possible for Date; cast it first, as in x::timestamp",
    "derive: {@a: 'date_trunc(''hour'', tailnum)'}": (
        "date_trunc needs a date or a datetime, and tailnum is String; write date_trunc('hour', timestamp(tailnum))"
    ),
    "derive: {@a: sqrt(tailnum)}": f"cannot calculate with String and a whole number; {CAST}",
    "derive: {@a: time_hour::date + 1}": (
        "cannot calculate with Date and a whole number (+); write a length of time as one, as in x + INTERVAL '1 day'"
    ),
    "derive: {@a: lag(delay)}": "lag needs a window; write lag(…) OVER (ORDER BY t), perhaps with PARTITION BY",
    "over: {by: origin, columns: {@a: lag(delay) OVER ()}}": (
        "lag needs an order in its window; write lag(…) OVER (ORDER BY t), perhaps with PARTITION BY"
    ),
    "cast: {@flight: Date}": (
        "column 'flight' cannot be cast from Int64 to Date; derive it from its digits: flight: date(\"flight\"::text, '%Y%m%d')"
    ),
    "derive: {@a: flight::date}": "Int64 is no date; read its digits, as in date(x::text, '%Y%m%d')",
    "derive: {@a: 'coalesce(cast(delay + 1 AS date), time_hour::date)'}": (
        "Float64 is no date; read its digits, as in date(x::text, '%Y%m%d')"
    ),
    "derive: {@a: isnan(delay)}": "unknown function 'isnan'; write x = 'nan'::double",
    'derive: {@a: "CAST(flight AS money)"}': (
        "unknown SQL type 'money'; write one such as bigint, double, text, date or timestamp"
    ),
    "derive: {@a: 1}": "'a' must be text, not 1; put it in quotes: \"1\"",
    "@derive: {}": "'derive' is empty; write at least one entry",
    # aggregate
    "aggregate: {@by: orign, aggregate: {n: count(*)}}": NO_ORIGN,
    "aggregate: {by: [origin, @tailnm], aggregate: {n: count(*)}}": NO_TAILNM,
    "aggregate: {aggregate: {@n: sum(dely)}}": NO_DELY,
    "aggregate: {by: origin, aggregate: {@n: delay}}": (
        "'n' is not an aggregate; wrap it in sum(), min(), max(), first() … or add it to by"
    ),
    "aggregate: {by: origin, aggregate: {@origin: count(*)}}": (
        "'origin' is a group column already; give the aggregate another name"
    ),
    "aggregate: {by: origin, aggregate: {@n: avg(tailnum)}}": (
        "mean is not possible for String; cast it first, as in x::double"
    ),
    "aggregate: {by: origin, @aggs: {n: count(*)}}": "unknown argument 'aggs' of aggregate; here that is called 'aggregate'",
    "aggregate: {@group_by: origin, aggregate: {n: count(*)}}": (
        "unknown argument 'group_by' of aggregate; here that is called 'by'"
    ),
    # columns of every operation that takes some
    "@select: tailnm": "'select' must be a list or a mapping, not 'tailnm'; write [tailnm]",
    "select: [origin, @tailnm]": NO_TAILNM,
    "select: {columns: [origin, @tailnm]}": NO_TAILNM,
    "select: {@tail: tailnm}": NO_TAILNM,
    "select: [origin, @origin]": "column 'origin' is selected twice; name it once",
    "@drop: tailnm": NO_TAILNM,
    "drop: [origin, @tailnm]": NO_TAILNM,
    "rename: {@tailnm: x}": NO_TAILNM,
    "rename: {@tailnum: origin}": "two columns would be called 'origin'; rename or drop the other one",
    "cast: {@tailnm: Int64}": NO_TAILNM,
    "cast: {origin: String, @flight: Int46}": "unknown type 'Int46'; did you mean 'Int64'?",
    "cast: {@flight: 'Decimal(a, b)'}": "cannot read the type 'Decimal(a, b)'; write it as Decimal(10, 2)",
    "cast: {@flight: List}": "the type 'List' needs arguments; write it as List(Int64)",
    "cast: {@time_hour: 'Datetime(us, Mars)'}": ("unknown time zone 'Mars'; write one such as UTC or Europe/Berlin"),
    "distinct: {columns: [@orign]}": NO_ORIGN,
    "distinct: {keep: first, @order_by: dely DESC}": NO_DELY,
    "distinct: {@keep: first}": "keep: first needs an order; add order_by: [column]",
    "distinct: {@order_by: delay}": "order_by has no effect here; say keep: first or keep: last",
    "@sort: dely DESC": NO_DELY,
    "sort: [origin, @dely DESC NULLS FIRST]": NO_DELY,
    "@unnest: plce": "unknown column 'plce'; did you mean 'place'?",
    "unnest: [place, @origin]": (
        "column 'origin' is String, not a struct; unnest takes struct columns; lists are for explode"
    ),
    "@explode: stps": "unknown column 'stps'; did you mean 'stops'?",
    "@explode: origin": "column 'origin' is String, not a list; explode takes list columns",
    "fill: {@columns: dely, value: 0}": NO_DELY,
    "fill: {columns: delay, @value: zero}": (
        "'zero' does not fit column 'delay', which is Float64; write a value of that type"
    ),
    "fill: {@columns: delay}": "fill needs one way to fill; give value or strategy",
    "fill: {columns: delay, @strategy: forward}": "strategy: forward needs an order; add order_by: [column]",
    "fill: {columns: delay, strategy: forward, @order_by: dely}": NO_DELY,
    "fill: {columns: delay, strategy: forward, order_by: delay, @by: orign}": NO_ORIGN,
    "rank: {as: r, order_by: [@dely]}": NO_DELY,
    "rank: {as: r, order_by: delay, @by: orign}": NO_ORIGN,
    "over: {columns: {@a: sum(dely)}, by: origin}": NO_DELY,
    "over: {columns: {a: sum(delay)}, @by: orign}": NO_ORIGN,
    "over: {columns: {a: sum(delay)}, @order_by: dely}": NO_DELY,
    "over: {@columns: {a: sum(delay)}}": "over needs a partition or an order; give by or order_by",
    "pivot: {@on: orign, into: [JFK], values: delay, index: tailnum, aggregate: sum}": NO_ORIGN,
    "pivot: {on: origin, into: [JFK], @values: dely, index: tailnum, aggregate: sum}": NO_DELY,
    "pivot: {on: origin, into: [JFK], values: delay, index: [flight, @tailnm], aggregate: sum}": NO_TAILNM,
    "pivot: {on: flight, @into: [JFK], values: delay, index: tailnum, aggregate: sum}": (
        "the values do not fit column 'flight', which is Int64; write values of that type"
    ),
    "pivot: {on: origin, @into: [], values: delay, index: tailnum, aggregate: sum}": (
        "'into' is empty; write at least one entry"
    ),
    "unpivot: {columns: [delay, @dely], index: origin}": NO_DELY,
    "unpivot: {columns: [delay], @index: orign}": NO_ORIGN,
    "@sample: {seed: 1}": "sample needs one size; give fraction or rows",
    "sample: {@fraction: 0.1, rows: 5}": "sample needs one size; give fraction or rows",
    "sample: {fraction: 0.1, @by: tailnm}": NO_TAILNM,
    # other inputs
    "join: {@with: planse, on: tailnum}": "unknown input 'planse'; did you mean 'planes'?",
    "join: {@with: planes}": "the keys of a join must be given once; give on, or left_on and right_on",
    "join: {with: planes, @on: tailnm}": NO_TAILNM,
    "join: {with: planes, on: [tailnum, @origin]}": (
        "unknown column 'origin' of 'planes'; known columns: built, seats, tailnum"
    ),
    "join: {with: planes, left_on: tailnum, @right_on: talnum}": (
        "unknown column 'talnum' of 'planes'; did you mean 'tailnum'?"
    ),
    "join: {with: planes, @left_on: [tailnum, flight], right_on: tailnum}": (
        "left_on has 2 columns and right_on 1; name the same number on both sides"
    ),
    "join: {with: planes, @left_on: tailnum, right_on: seats}": (
        "key 'tailnum' is String and key 'seats' is Int64; cast one of them first"
    ),
    "join: {with: planes, on: tailnum, columns: [@seat]}": ("unknown column 'seat' of 'planes'; did you mean 'seats'?"),
    "join: {with: planes, on: tailnum, columns: {@seat: s}}": (
        "unknown column 'seat' of 'planes'; did you mean 'seats'?"
    ),
    "join: {with: planes, on: tailnum, @columns: {seats: n, built: n}}": (
        "two columns would be called 'n'; rename one of them, or choose a suffix"
    ),
    "join: {with: planes, on: tailnum, how: semi, @columns: [seats]}": (
        "semi joins take no columns of the other side; remove columns"
    ),
    "join: {with: planes, @how: cross, on: tailnum}": "a cross join has no keys; remove them, or choose another how",
    "asof_join: {@with: planes}": "the key of an asof_join must be given once; give on, or left_on and right_on",
    "asof_join: {with: planes, @left_on: fligt, right_on: built}": ("unknown column 'fligt'; did you mean 'flight'?"),
    "asof_join: {with: planes, left_on: flight, right_on: built, @by: [origin]}".replace("@by: [", "by: [@"): (
        "unknown column 'origin' of 'planes'; known columns: built, seats, tailnum"
    ),
    "@union: planes": "this side lacks column 'built'; add it, or say missing: fill",
    "union: [planes, @planse]": "unknown input 'planse'; did you mean 'planes'?",
    "union: {with: [planes], @missing: fil}": "'missing' cannot be 'fil'; did you mean 'fill'?",
    # whole queries and functions
    "@sql: SELECT * FROM flihgts": "unknown table 'flihgts'; did you mean 'flights'?; list all inputs of the stage: from: [flights, flihgts]",
    "@sql: SELECT * FROM planes": "unknown table 'planes'; known inputs: flights, self; list all inputs of the stage: from: [flights, planes]",
    "@sql: SELECT dely FROM self": NO_DELY,
    "@sql: SELECT flight FROM": "bad SQL: expected identifier, found the end; check the words before it",
    "@sql: SELECT * FROM {{ ref('flights') }}": (
        "bad SQL: it contains {, and templates are not rendered here; for {{ ref('x') }} write x, and list it in from"
    ),
    "@sql: SELECT * FROM self WHERE tailnum = NULL": "nothing is = NULL, not even NULL; write IS NULL",
    "@sql: DROP TABLE self": "a sql operation must be one SELECT statement; start it with SELECT or WITH",
    "@sql: SELECT * FROM scan_parquet('x')": (
        "scan_parquet() would read a file unseen by the plan; declare it as a source"
    ),
    "@sql: SELECT tailnum + 1 AS n FROM self": f"cannot calculate with String and a whole number; {CAST}",
    "@sql: 'SELECT * FROM self WHERE flight > :least'": "unknown parameter :least; known parameters: now, since; or declare it: params: {least: …}",
    "@python: os:system": "module 'os' is not allowed; allow it: --allow os, or allow=['os'] in Python",
    "@python: system": "'system' does not name a function; write module:function",
    "python: {call: 'a:b', @wiht: planes}": "unknown argument 'wiht' of python; did you mean 'with'?",
    "python: {call: 'a:b', with: [planes, @plans]}": "unknown input 'plans'; did you mean 'planes'?",
}


@cases(OPERATIONS)
def test_operations(folder: Path, marked: str, message: str) -> None:
    expect(folder, f"{HEAD}    do:\n      - {marked}{TAIL}", message)


NOT_A_LIMIT = "write a count of rows, or a percentage such as 0.1%"
RULES = {
    "@not_nul: origin": "unknown rule 'not_nul'; did you mean 'not_null'?",
    "@{not_null: origin, unique: origin}": (
        "one rule has one key, its name; this has 'not_null' and 'unique'; start each rule with its own dash; its arguments go below its name, indented"
    ),
    "@unique": "'unique' is not a rule; write name: arguments",
    "@not_null: orign": NO_ORIGN,
    "not_null: [origin, @dely]": NO_DELY,
    "not_null: {columns: [origin, @dely]}": NO_DELY,
    "not_null: {@column: origin}": "unknown argument 'column' of not_null; did you mean 'columns'?",
    "not_null: {columns: [origin, delay], @id: x}": (
        "one id cannot name the checks of several columns; write one rule per column"
    ),
    "@unique: orign": NO_ORIGN,
    "unique: {columns: origin, @action: fial}": "'action' cannot be 'fial'; did you mean 'fail'?",
    "@between: delay": "'between' must be a mapping, not 'delay'; write between: {column: …}",
    "between: {column: delay, max: 9, action: repair, @repair: clip}": (
        "'repair' must be a mapping, not 'clip'; write one of {set: SQL}, {null: true}, {default: value}, {clip: true} (the nearest bound), "
        "{previous: [columns to order by]} (the last valid value before it), or {previous: {order_by: [columns], by: [columns to group by]}}: "
        "what action: repair puts in place of a violating value"
    ),
    "@between: {min: 1}": "'column' is missing in 'between'; add column: the column to check",
    "between: {@column: dely, min: 1}": NO_DELY,
    "between: {@column: delay}": "between needs a bound; give min, max or both",
    "between: {@column: late, min: 0}": "column 'late' is Boolean, and between is for what has an order; use in_set",
    "between: {column: delay, @min: low}": (
        "'low' cannot be compared with column 'delay', which is Float64; write a value of that type"
    ),
    "between: {column: origin, @max: 5}": (
        "5 cannot be compared with column 'origin', which is String; write '5', in quotes"
    ),
    "between: {column: time_hour, @min: 2013-13-01}": (
        "'2013-13-01' cannot be compared with column 'time_hour', which is Datetime(us, UTC); "
        "write a value of that type"
    ),
    "between: {column: delay, @min: 5, max: 1}": "min 5 is greater than max 1; no row could pass; swap them",
    "between: {column: time_hour, @min: ':sinse'}": "unknown parameter :sinse; did you mean 'since'?",
    "between: {column: delay, min: 1, @closed: yes}": (
        "'closed' cannot be 'yes'; known values: both, left, none, right"
    ),
    "between: {column: delay, min: 1, @max_failures: 150%}": (
        "150% is more than all rows; write a count of rows, or 0% to 100%"
    ),
    "between: {column: delay, min: 1, @max_failures: many}": f"'max_failures' cannot be 'many'; {NOT_A_LIMIT}",
    "between: {column: delay, min: 1, @max_failures: '1.5'}": f"'max_failures' cannot be '1.5'; {NOT_A_LIMIT}",
    "between: {column: delay, min: 1, @max_failures: 1.5}": (
        f"'max_failures' must be a whole number or text, not 1.5; {NOT_A_LIMIT}"
    ),
    "between: {column: delay, min: 1, @warn_above: -1}": "'warn_above' is -1, less than 0; write 0 or more",
    "between: {column: delay, min: 1, max_failures: 1%, @fail_above: 2}": (
        "max_failures and fail_above say the same; give one of them"
    ),
    "between: {column: delay, min: 1, @where: dely > 1}": NO_DELY,
    "between: {column: delay, min: 1, @where: delay + 1}": (
        "a condition must be true or false, and this is Float64; compare it with something"
    ),
    "in_set: {@column: orign, values: [JFK]}": NO_ORIGN,
    "in_set: {column: origin, @values: JFK}": "'values' must be a list, not 'JFK'; write [JFK]",
    "in_set: {column: origin, @values: []}": "'values' is empty; write at least one entry",
    "in_set: {column: origin, @values: [1, 2]}": (
        "1, 2 cannot be compared with column 'origin', which is String; write '1', '2', in quotes"
    ),
    "in_set: {column: flight, @values: [1, AA]}": (
        "'AA' cannot be compared with column 'flight', which is Int64; write a value of that type"
    ),
    "@expression: dely > 1": NO_DELY,
    "@expression: tailnum > flight": f"String cannot be compared with Int64; {CAST}",
    "@expression: delay + 1": ("a condition must be true or false, and this is Float64; compare it with something"),
    "@expression: {id: five}": "'condition' is missing in 'expression'; add condition: a SQL condition",
    "expression: {condition: late, @id: 5}": "'id' must be text, not 5; put it in quotes: \"5\"",
}


@cases(RULES)
def test_rules(folder: Path, marked: str, message: str) -> None:
    expect(folder, f"{HEAD}    gate:\n      - {marked}{TAIL}", message)
    gate = f"    gate:\n      - {marked}\n  planes:"
    expect(folder, f"{HEAD}{TAIL}".replace("  planes:", gate, 1), message)


ALL = "{x: Int64, t: String, f: Float64, d: Date}"
LATE = "do: [{window: {time: d, every: 1d, late: drop, watermark: d, aggregate: {n: count(*)}}}]"
SECTIONS = {
    # sources
    "sources: {@a: a.csv}": "source 'a' must be a mapping, not 'a.csv'; write a: {uri: …}",
    "sources: {a: {@url: a.csv}}": "unknown key 'url' of source 'a'; did you mean 'uri'?",
    "sources: {a: {@uri: 5}}": "'uri' must be text or a list, not 5; put it in quotes: \"5\"",
    "sources: {a: {@uri: a.txt}}": (
        "the format of 'a.txt' is not known from its name; "
        "add format, or use an ending such as .parquet, .csv, .ndjson, .arrow"
    ),
    "sources: {a: {@uri: a.xls}}": (
        "the format of 'a.xls' is not known from its name; save the sheet as CSV or Parquet: workbooks are not read"
    ),
    "sources: {a: {uri: a.csv, @format: cvs}}": "'format' cannot be 'cvs'; did you mean 'csv'?",
    "sources: {a: {@uri: [a.csv, b.parquet]}}": (
        "one source cannot mix formats; make a source of each, and union them"
    ),
    "sources: {a: {@uri: '${NOPE}/a.csv'}}": "environment variable NOPE is not set; set it: export NOPE=…",
    'sources: {a: {@uri: "a\\0.csv"}}': "a file name cannot contain a zero byte; take it out",
    'outputs: {a: {@to: "out\\0"}}': "a file name cannot contain a zero byte; take it out",
    "sources: {a: {@uri: 's4://b/a.csv'}}": (
        "unknown protocol 's4'; install the package that adds it to fsspec, or write one such as s3, gs, az, https or sftp"
    ),
    "sources: {a: {uri: [a.csv, @'S3://b/a.csv']}}": "unknown protocol 'S3'; did you mean 's3'?",
    "sources: {a: {@uri: 'zipp://*.csv::a.zip'}}": "unknown protocol 'zipp'; did you mean 'zip'?",
    "sources: {a: {@uri: 'postgres://db/t'}}": (
        "unknown protocol 'postgres'; install the package that adds it to fsspec, or write one such as s3, gs, az, https or sftp"
    ),
    "outputs: {a: {@to: 's33://b/a'}}": "unknown protocol 's33'; did you mean 's3'?",
    "sources: {a: {@uri: a.tsv}}": (
        "the format of 'a.tsv' is not known from its name; add format: csv and read: {separator: \"\\t\"}"
    ),
    "sources: {a: {@uri: a.zip}}": (
        "the format of 'a.zip' is not known from its name; name what is in it, such as zip://*.csv::data.zip"
    ),
    "sources: {a: {uri: [a.csv, @'${NOPE}/b.csv']}}": "environment variable NOPE is not set; set it: export NOPE=…",
    "sources: {a: {uri: a.csv, storage_options: {@key: '${NOPE}'}}}": (
        "environment variable NOPE is not set; set it: export NOPE=…"
    ),
    "sources: {a: {uri: a.csv, read: {@seperator: ';'}}}": "unknown key 'seperator' of 'read'; did you mean 'separator'?",
    "sources: {a: {@path: a.csv}}": "unknown key 'path' of source 'a'; here that is called 'uri'",
    "sources: {a: {uri: a.csv, read: {@sep: ';'}}}": "unknown key 'sep' of 'read'; here that is called 'separator'",
    "stages: {b: {@input: a}}": "unknown key 'input' of stage 'b'; here that is called 'from'",
    "outputs: {a: {@path: out}}": "unknown key 'path' of output 'a'; here that is called 'to'",
    "outputs: {a: {to: out, @mode: overwrite}}": "'mode' cannot be 'overwrite'; here that is called 'replace'",
    "sources: {a: {uri: a.csv, gate: {@not_null: x}}}": (
        "'not_null' is not in a list; start each rule of the gate with a dash: - not_null: …"
    ),
    "sources: {a: {uri: a.csv, read: {@skip_rows: -1}}}": "'skip_rows' is -1, less than 0; write 0 or more",
    "sources: {a: {uri: a.parquet, @read: {separator: ';'}}}": "read is for CSV, and this is parquet; remove read",
    "sources: {a: {uri: a.ndjson, @read: {null_values: [NA]}}}": "read is for CSV, and this is ndjson; remove read",
    "sources: {a: {uri: a.csv, read: {@separator: tab}}}": (
        "separator is 'tab', and must be one character; write \"\\t\", in double quotes"
    ),
    "sources: {a: {uri: a.csv, read: {@separator: '\\t'}}}": (
        "separator is '\\\\t', and must be one character; write \"\\t\", in double quotes"
    ),
    "sources: {a: {uri: a.csv, read: {@separator: é}}}": (
        "separator is 'é', and must be one character; write one ASCII character that is no line break"
    ),
    'sources: {a: {uri: a.csv, read: {@separator: "\\n"}}}': (
        "separator is '\\n', and must be one character; write one ASCII character that is no line break"
    ),
    "sources: {a: {uri: a.csv, read: {@quote: '||'}}}": (
        "quote is '||', and must be one character; write one ASCII character that is no line break"
    ),
    "sources: {a: {uri: a.csv, read: {separator: '|', @quote: '|'}}}": (
        "the separator and the quote character are both '|'; write another one, or quote: '' if nothing is quoted"
    ),
    "sources: {a: {uri: a.csv, read: {@separator: '\"'}}}": (
        "the separator and the quote character are both '\"'; write another one, or quote: '' if nothing is quoted"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {@x: Int46}}}}": "unknown type 'Int46'; did you mean 'Int64'?",
    "sources: {a: {uri: a.csv, contract: {columns: {@x: 5}}}}": (
        "'x' must be text or a mapping, not 5; put it in quotes: \"5\""
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {x: {@type: Int46}}}}}": "unknown type 'Int46'; did you mean 'Int64'?",
    "sources: {a: {uri: a.csv, contract: {columns: {x: {type: Int64, @on_change: fail}}}}}": (
        "unknown key 'on_change' of 'x'; did you mean 'on_type_change'?"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {@x: {alias: y}}}}}": "'type' is missing in 'x'; add type: a type such as Int64, String, Date, Datetime(us, UTC)",
    "sources: {a: {uri: a.csv, contract: {columns: {x: {type: Int64, @alias: y}, y: String}}}}": (
        "'y' is an alias of 'x', and a column of its own; remove one of them"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {x: {type: Int64, alias: z}, y: {type: String, @alias: [w, z]}}}}}": (
        "'z' is an alias of 'y', and one of 'x' too; remove one of them"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {x: Int64}, @on_missing_column: ignore}}}": (
        "'on_missing_column' cannot be 'ignore'; known values: discard_column, discard_row, evolve, fail, freeze"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {x: Int64}, @on_new_colum: fail}}}": (
        "unknown key 'on_new_colum' of 'contract'; did you mean 'on_new_column'?"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {x: Int64}, @on_new_column: refuse}}}": (
        "'on_new_column' cannot be 'refuse'; known values: discard_column, discard_row, evolve, fail, freeze, ignore"
    ),
    "sources: {a: {uri: a.csv, @contract: {on_new_column: fail}}}": (
        "'columns' is missing in 'contract'; add columns: column → type, such as Int64, String, Date, Datetime(us, UTC)"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {hour: Date}}, @event_time: huor}}": (
        "unknown column 'huor'; did you mean 'hour'?"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {hour: Time}}, @event_time: hour}}": (
        "event_time 'hour' is Time, not a date or a datetime; declare it as one in contract"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {id: Int64}}, key: [id, @day]}}": (
        "unknown column 'day'; known columns: id"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {id: Int64}}, columns: {@ids: {tags: [pii]}}}}": (
        "unknown column 'ids'; did you mean 'id'?"
    ),
    "sources: {a: {uri: a.csv, contract: {columns: {id: Int64}}, columns: {id: {@tag: [pii]}}}}": (
        "unknown key 'tag' of column 'id'; did you mean 'tags'?"
    ),
    "sources: {a: {uri: a.csv, columns: {@id: pii}}}": "column 'id' must be a mapping, not 'pii'; write id: {tags: …}",
    # stages
    "@stages: []": "'stages' must be a mapping, not a list; write name: {…}",
    "stages: {@b-c: {from: a}}": "'b-c' is not a name; use letters, digits and underscores, such as 'b_c'",
    "stages: {@1b: {from: a}}": "'1b' is not a name; use letters, digits and underscores, such as '_1b'",
    "stages: {b: {@form: a}}": "unknown key 'form' of stage 'b'; did you mean 'from'?",
    "stages: {@b: {do: []}}": (
        "'from' is missing in stage 'b'; add from: the source or stage that the operations start from"
    ),
    "stages: {@b: a}": "stage 'b' must be a mapping, not 'a'; write b: {from: …}",
    "stages: {@b: }": "stage 'b' must be a mapping, not null; write b: {from: …}",
    "stages: {b: {@from: []}}": "'from' is empty; write at least one entry",
    "stages: {b: {from: [@5]}}": "an entry of 'from' must be text, not 5; put it in quotes: \"5\"",
    "stages: {b: {from: a, @do: {filter: x > 1}}}": (
        "'do' must be a list, not a mapping; start each operation with a dash"
    ),
    "stages: {b: {from: a, @gate: unique}}": "'gate' must be a list, not 'unique'; start each rule with a dash",
    "stages: {flown: {from: a}, b: {@from: flonw}}": "unknown input 'flonw'; did you mean 'flown'?",
    "stages: {b: {from: [a, @zz]}}": "unknown input 'zz'; known sources and stages: a, b",
    "stages: {@a: {from: a}}": "'a' is a source and a stage; give one of them another name",
    # one that puts late rows aside is compiled as two, of which nobody has to know
    f"stages: {{flown: {{from: a}}, b: {{@from: flonw, {LATE}}}}}": "unknown input 'flonw'; did you mean 'flown'?",
    f"stages: {{b: {{from: [a, @zz], {LATE[:-1]}, {{sql: SELECT * FROM self}}]}}}}": "unknown input 'zz'; known sources and stages: a, b",
    f"stages: {{b: {{@from: c, {LATE}}}, c: {{from: b}}}}": "stages read each other in a circle: b → c → b; break it at one of them",
    f"stages: {{b: {{@from: b, {LATE}}}}}": "stage 'b' reads itself; name another source or stage",
    "stages: {b: {@from: b}}": "stage 'b' reads itself; name another source or stage",
    "stages: {b: {@from: c}, c: {from: d}, d: {from: b}}": (
        "stages read each other in a circle: b → c → d → b; break it at one of them"
    ),
    "stages: {b: {from: a, do: [{join: {@with: c, on: x}}]}, c: {from: b}}": (
        "stages read each other in a circle: b → c → b; break it at one of them"
    ),
    # outputs
    "@outputs: []": "'outputs' must be a mapping, not a list; write name: {…}",
    "outputs: {@a: out}": "output 'a' must be a mapping, not 'out'; write a: {to: …}",
    "outputs: {a: {@too: out}}": "unknown key 'too' of output 'a'; did you mean 'to'?",
    f"outputs: {{@c: {{to: out}}}}\nstages: {{b: {{from: a, {LATE}}}}}": "unknown stage 'c'; known stages: a, b",
    "outputs: {@b: {to: out}}": "unknown stage 'b'; known stages: a",
    "outputs: {b: {@from: aa, to: out}}": "unknown stage 'aa'; did you mean 'a'?",
    "outputs: {a: {@to: '${NOPE}/out'}}": "environment variable NOPE is not set; set it: export NOPE=…",
    "outputs: {a: {to: out, @mode: add}}": "'mode' cannot be 'add'; known values: append, delete, replace, replace_partitions, scd2, snapshot, upsert",
    "outputs: {a: {to: out, @format: avro}}": (
        "'format' cannot be 'avro'; known values: csv, dataset, delta, ipc, ndjson, parquet"
    ),
    "outputs: {a: {to: out, @partition_by: y}}": "unknown column 'y'; known columns: d, f, t, x",
    "outputs: {a: {to: out, partition_by: [t, @f]}}": (
        "Float64 column 'f' cannot be a partition column; partition by text, whole numbers, booleans, dates or datetimes"
    ),
    "outputs: {a: {to: out, partition_by: [t, @t]}}": "column 't' stands twice; remove one of them",
    "outputs: {a: {to: out, key: [x, @xx]}}": "unknown column 'xx'; did you mean 'x'?",
    "outputs: {a: {to: out}, b: {from: a, @to: ./out/}}": (
        "outputs 'a' and 'b' write to the same place; change one of them"
    ),
    "outputs: {a: {to: o.csv, format: csv, @partition_by: t}}": (
        "partition_by is for datasets, and this is one csv file; remove partition_by, or write format: dataset"
    ),
    "outputs: {a: {to: o.csv, format: csv, @mode: append}}": (
        "mode is for datasets, and this is one csv file; remove mode, or write format: dataset"
    ),
    **{
        f"outputs: {{a: {{to: o.csv, format: csv, @{key}: {value}}}}}": (
            f"{key} is for datasets, and this is one csv file; remove {key}, or write format: dataset"
        )
        for key, value in (
            ("keep", 3),
            ("deletes", "close"),
            ("deleted_when", "x > 1"),
            ("event_time", "d"),
            ("order_by", "d"),
        )
    },
    "outputs: {a: {to: out, @contract: {}}}": "'contract' is empty; write at least one entry",
    "outputs: {a: {to: out, contract: {@mode: exact}}}": (
        "unknown key 'mode' of 'contract'; known keys: columns, on_missing_column, on_new_column, on_type_change"
    ),
    "outputs: {a: {to: out, contract: {@on_new_column: ignore}}}": (
        "'on_new_column' cannot be 'ignore'; known values: discard_column, discard_row, evolve, fail, freeze"
    ),
    "outputs: {a: {to: out, contract: {on_new_column: evolve, columns: {@x: Int46}}}}": (
        "unknown type 'Int46'; did you mean 'Int64'?"
    ),
    "outputs: {a: {to: out, contract: {on_new_column: evolve, columns: {@y: Int64}}}}": (
        "'a' has no column 'y', which is in the contract; known columns: d, f, t, x"
    ),
    "outputs: {a: {to: out, contract: {on_new_column: evolve, columns: {@t: Int64}}}}": (
        "column 't' is String in 'a' and Int64 in the contract; "
        "cast it in a stage, or say on_type_change: evolve, freeze, discard_column or discard_row"
    ),
    "outputs: {a: {to: out, contract: {@on_new_column: fail, columns: {x: Int64, d: Date, f: Float64}}}}": (
        "'a' has a column 't' that the contract does not list; "
        "list it, select others in a stage, or say on_new_column: evolve or discard_column"
    ),
    "outputs: {a: {to: out.csv, format: csv, @contract: {on_new_column: evolve}}}": (
        "a contract without columns is about the previous commit, and this is one csv file; add columns, or remove format"
    ),
    "outputs: {a: {to: out, @contract: {columns: {x: Int64}, on_new_column: discard_column}}}": (
        "the contract changes the rows, and 'a' is a source; put a stage between, or change the source's contract"
    ),
    # parameters
    "params: {@p: 5}": "parameter 'p' must be a mapping, not 5; write p: {type: …}",
    "params: {p: {@typ: integer}}": "unknown key 'typ' of parameter 'p'; did you mean 'type'?",
    "params: {p: {@type: data}}": "'type' cannot be 'data'; did you mean 'date'?",
    "params: {p: {type: date, @default: tomorrow}}": (
        "the default of parameter 'p': 'tomorrow' is not a date such as 2013-01-31"
    ),
    "params: {p: {type: integer, @default: 1.5}}": ("the default of parameter 'p': 1.5 is not an integer such as 42"),
    "params: {p: {type: string, @default: 5}}": "the default of parameter 'p': 5 is not a string such as \"5\"",
    "params: {@p: {type: integer}}": "parameter 'p' has no value; pass it (--param p=…), or give it a default",
    "params: {@now: {type: date, default: 2013-01-01}}": (
        "the parameter 'now' is always the time of the run; give yours another name"
    ),
    "params: {@'p q': {type: date}}": "'p q' is not a name; use letters, digits and underscores, such as 'p_q'",
    # the document
    "@stage: {}": "unknown key 'stage'; did you mean 'stages'?",
    "@1: x": "unknown key '1'; known keys: audit, description, name, openlineage, outputs, params, sources, stages, state, version",
    "@version: 2": "version 2 is not known; write version: 1",
    "@version: '1'": "version '1' is not known; write version: 1",
    "@name: 5": "'name' must be text, not 5; put it in quotes: \"5\"",
    "@name:": "'name' must be text, not null; write the pipeline's name",
    "@name: ''": "'name' is empty; write the pipeline's name",
}


def _document(section: str) -> str:
    """Put a section in the place of the same one in a definition that is right."""
    parts = {
        "version": "version: 1",
        "name": "name: p",
        "sources": f"sources: {{a: {{uri: a.csv, contract: {{columns: {ALL}}}}}}}",
        "outputs": "outputs: {a: {to: out}}",
    }
    parts[section.lstrip("@").partition(":")[0]] = section
    return "\n".join(parts.values()) + "\n"


@cases(SECTIONS)
def test_sections(folder: Path, marked: str, message: str) -> None:
    expect(folder, _document(marked), message)


TEXTS = {
    "empty": ("@", "a definition is a mapping; start with version: 1"),
    "comment only": ("@# nothing\n", "a definition is a mapping; start with version: 1"),
    "a list": ("# first\n@- a\n", "a definition is a mapping; start with version: 1"),
    "text": ("@just text", "a definition is a mapping; start with version: 1"),
    "colon in text": ("name: a@: b", "not YAML: a ':' is not expected here; put text that contains ': ' in quotes"),
    "tab": ("version: 1\n@\tname: p", "not YAML: a tab stands here; indent with spaces"),
    "open quote": ("name: @'p\nversion: 1\n", "not YAML: the quote that opens here is not closed; close it"),
    "open brace": ("name: @{p\n", "not YAML: the bracket that opens here is not closed with '}'; close it"),
    "open list": ("name: @[p\nb: 1\n", "not YAML: the bracket that opens here is not closed with ']'; close it"),
    "indentation": (
        "sources:\n    a: {uri: a.csv}\n  @b: {uri: b.csv}\n",
        "not YAML: this line does not fit the indentation above; indent it like its neighbours",
    ),
    "parameter in braces": ("a: {min: @:since}", "not YAML: a value cannot start with ':' here; put it in quotes"),
    "pattern": (
        "a: {uri: *@.csv}",
        "not YAML: a value that starts with * or & is taken for the name of an anchor; put it in quotes",
    ),
    "percent sign": ("a: @%x", "not YAML: a value cannot start with '%'; put it in quotes"),
    "star": (
        "a: {n: @*x}",
        "not YAML: there is no anchor 'x'; define it above with &x, or put the text in quotes",
    ),
    "quoted first": ('a: {b: "x" @+ 1}', "not YAML: text goes on behind the quote that ends a value; put the whole value in quotes"),
    "quoted last": ("a: {b: concat(x, 'y'@)}", "not YAML: text goes on behind the quote that ends a value; put the whole value in quotes"),
    "quoted, and an operator": ("a: ['x' @|| y]", "not YAML: text goes on behind the quote that ends a value; put the whole value in quotes"),
    "open brace behind a quote": ("a: @{b: 'x'\nc: 1\n", "not YAML: the bracket that opens here is not closed with '}'; close it"),
    "greater": (
        'a: "x" @> 3\n',
        "not YAML: a value that goes on with > or | is taken for text of several lines; put the whole value in quotes",
    ),
    "exclamation mark": (
        "a: {b: @!x}",
        "not YAML: a value that starts with ! is taken for the name of a type; put the whole value in quotes",
    ),
    "comma of a call": (
        "a: {b: @round(x, 2), c: 1}",
        "a comma ends the value 'round(x'; put the whole of it in quotes: \"round(x, 2)\"",
    ),
    "commas of calls": (
        "a: {b: @round(x, 2), c: @round(y, 2)}",
        "a comma ends the value 'round(x'; put the whole of it in quotes: \"round(x, 2)\"",
        "a comma ends the value 'round(y'; put the whole of it in quotes: \"round(y, 2)\"",
    ),
    "comma of a type": (
        "a: {b: 1, c: @Decimal(9, 2)}",
        "a comma ends the value 'Decimal(9'; put the whole of it in quotes: \"Decimal(9, 2)\"",
    ),
    "commas in a condition": (
        "[{b: @f(g(x, y), 2, 3) > 1, c: d}]",
        "a comma ends the value 'f(g(x'; put the whole of it in quotes: \"f(g(x, y), 2, 3) > 1\"",
    ),
    "comma in a list": (
        "a: [b, @round(x, 2) + 1, c]",
        "a comma ends the value 'round(x'; put the whole of it in quotes: \"round(x, 2) + 1\"",
    ),
    "comma behind text in quotes": (
        'a: [@round("x", 2)]',
        "a comma ends the value 'round(\"x\"'; put the whole of it in quotes: 'round(\"x\", 2)'",
    ),
    "two documents": (
        "version: 1\n@---\nversion: 1\n",
        "not YAML: a second document starts here; write one definition per file",
    ),
    "control character": ("a: 'ü@\x07'", "not YAML: character U+0007 is not allowed; remove it"),
    "key twice": ("version: 1\nname: p\n@name: q\n", "'name' is listed twice in one mapping; remove one of them"),
    "list as key": ("version: 1\n? @[a, b]\n: c\n", "a key must be plain text; write name: value"),
    "python tag": ("a: @!!python/object:os.system p", "YAML tag '!!python/object:os.system' is not allowed here; write a plain value"),
    "own tag": ("a: @!secret p", "YAML tag '!secret' is not allowed here; write a plain value"),
    "binary": ("a: @!!binary abcd", "YAML tag '!!binary' is not allowed here; write a plain value"),
    "set": ("a: @!!set {b}", "YAML tag '!!set' is not allowed here; write a plain value"),
    "not a number": ("a: @!!int ten", "YAML tag '!!int' is not allowed here; write a plain value"),
    "contains itself": (
        "@a: &a [*a]",
        "the definition is nested too deeply, or contains itself; write it with fewer levels",
    ),
    "too deep": ("@" + "[" * 1_000, "the definition is nested too deeply, or contains itself; write it with fewer levels"),
}  # fmt: skip


@pytest.mark.parametrize("told", TEXTS.values(), ids=list(TEXTS))
def test_texts_that_are_no_definition(folder: Path, told: tuple[str, ...]) -> None:
    expect(folder, *told)


def test_brackets_that_no_comma_cuts_are_left_alone() -> None:
    for text in (
        "a: [b (, c, d]",
        "a: {b: f(x, c: y)}",
        "a: ['f(x', '2)']",
        "a: f(x, 2)",
        "a: [f(x), 2)]",
        "a: {b: f(x, 2): 3}",
    ):
        assert parse(text, "p.yaml")[0]["a"]


def test_missing_keys_are_all_told(folder: Path) -> None:
    expect(
        folder,
        "@@@@description: x\n",
        "'version' is missing; add version: 1",
        "'name' is missing; add name: the pipeline's name",
        "'sources' is missing; add sources: where rows come from",
        "'outputs' is missing; add outputs: where they go",
    )


JSON = {
    "comma": ('{"version": 1,\n "name": "p" @"x": 1}', "not JSON: expecting ',' delimiter"),
    "single quotes": ("{@'version': 1}", "not JSON: expecting property name enclosed in double quotes"),
    "empty": ("@", "not JSON: expecting value"),
    "endless number": ('@{"a": ' + "9" * 5_000 + "}", "not JSON: a number has too many digits"),
    "key twice": ('{"a": 1,\n\t"b": {"c": 1, @"c": 2}}', "'c' is listed twice in one mapping; remove one of them"),
    "wrong type": (
        '{"version": 1, "name": "p", "sources": {}, "outputs": {},\n\t\t@"stages": []}',
        "'stages' must be a mapping, not a list; write name: {…}",
    ),
    "non-ASCII before": (
        '{"version": 1, "name": "größe ✈", "sources": {}, "outputs": {}, "é": 1, @"params": 5}'.replace('"é": 1, ', ""),
        "'params' must be a mapping, not 5; write name: {…}",
    ),
    "too deep": ("@" + "[" * 100_000, "the definition is nested too deeply, or contains itself; write it with fewer levels"),
}  # fmt: skip


@pytest.mark.parametrize(("marked", "message"), JSON.values(), ids=list(JSON))
def test_json(folder: Path, marked: str, message: str) -> None:
    expect(folder, marked, message, file="pipeline.json")


def test_a_few_aliases_cannot_stand_for_billions_of_parts(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (folder / "pipeline.yaml").write_text("\n".join(lines))
    with pytest.raises(lp.DefinitionError) as caught:
        lp.load("pipeline.yaml")
    assert str(caught.value) == (
        "pipeline.yaml:1:31: the definition has more than 250,000 parts; write it with fewer aliases"
    )


def test_a_file_that_is_not_there_or_not_text(folder: Path) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.load("nope.yaml")
    assert str(caught.value) == "there is no file nope.yaml; check the path of the definition"
    (folder / "flights.yaml").write_text("")
    (folder / "flihts.txt").write_text("")
    for given, said in (
        ("flights.yml", "did you mean 'flights.yaml'?"),
        ("Flihts.yaml", "did you mean 'flights.yaml'?"),
        ("weather.yaml", "check the path of the definition"),
        ("none/flights.yaml", "check the path of the definition"),
    ):
        with pytest.raises(lp.DefinitionError) as caught:
            lp.load(folder / given)
        assert str(caught.value) == f"there is no file {folder / given}; {said}"
    Path("latin.yaml").write_bytes("name: größe".encode("latin-1"))
    with pytest.raises(lp.DefinitionError) as caught:
        lp.load("latin.yaml")
    assert str(caught.value) == (
        "cannot read latin.yaml: 'utf-8' codec can't decode byte 0xf6 in position 8: invalid start byte; "
        "a definition is a UTF-8 text file"
    )


def test_parameters_that_the_caller_gives(folder: Path) -> None:
    text = _document("params: {@day: {type: date, default: 2013-01-01}}")
    expect(folder, text, "parameter 'day': 'x' is not a date such as 2013-01-31", params={"day": "x"})
    expect(folder, text, "parameter 'day': 5 is not a date such as 2013-01-31", day=5)
    expect(
        folder,
        text.replace("@", "").replace("params", "@params"),
        "unknown parameter 'dya'; did you mean 'day'?",
        dya=1,
    )
    expect(folder, "@" + _document("name: p"), "unknown parameter 'day'; there are no parameters", day=1)


CONTRACTS = {
    "{columns: {x: Int64, @z: Int64}}": "the files lack column 'z'; known columns in the files: x, y",
    "{columns: {x: Int64}, @on_new_column: fail}": (
        "the files have a new column 'y'; declare it, or say on_new_column: evolve or discard_column"
    ),
    "{columns: {@x: Datetime(us)}}".replace("(us)", ""): (
        "column 'x' is Int64 in the files and Datetime(us) in the contract; "
        "change the contract, or say on_type_change: evolve, freeze, discard_column or discard_row"
    ),
}


@cases(CONTRACTS)
def test_contracts_that_the_files_break(folder: Path, marked: str, message: str) -> None:
    import polars as pl

    pl.DataFrame({"x": [1], "y": ["a"]}).write_parquet(folder / "a.parquet")
    expect(folder, _document(f"sources: {{a: {{uri: a.parquet, contract: {marked}}}}}"), message)


TEN = """\
version: 1
name: p
params: {since: {type: date, default: 2013-01-01}}
sources:
  a:
    uri: a.csv
    contract: {columns: {x: Int64, t: String, f: Float64, day: Date}}
    @event_time: dya
  b: {uri: b.csv, contract: {columns: {x: Int64, t: String, f: Float64, day: Date}}}
stages:
  one: {from: b, do: [{limit: 9}, {sort: [x, @q DESC]}]}
  two:
    from: b
    do:
      - @filter: y > 1
    gate: [{not_null: x}]
  three:
    from: b
    do: [{derive: {n: x + 1, @m: t + 1}}]
  four: {@from: tow}
  five:
    from: b
    gate:
      - between: {column: x, @min: low}
      - unique: [x, @tt]
      - expression: day > :since
  six: {from: b, do: [{join: {with: five, on: x, columns: [@ff]}}]}
outputs:
  five: {to: out/five, partition_by: [@f]}
  @seven: {to: out/seven}
"""


def test_ten_mistakes_in_one_file_are_ten_messages_in_its_order(folder: Path) -> None:
    expect(
        folder,
        TEN,
        "unknown column 'dya'; did you mean 'day'?",
        "unknown column 'q'; known columns: day, f, t, x",
        "unknown column 'y'; known columns: day, f, t, x",
        f"cannot calculate with String and a whole number; {CAST}",
        "unknown input 'tow'; did you mean 'two'?",
        "'low' cannot be compared with column 'x', which is Int64; write a value of that type",
        "unknown column 'tt'; did you mean 't'?",
        "unknown column 'ff' of 'five'; did you mean 'f'?",
        "Float64 column 'f' cannot be a partition column; partition by text, whole numbers, booleans, dates or datetimes",
        "unknown stage 'seven'; known stages: a, b, five, four, one, six, three, two",
    )


FORM = """\
version: 1
@nmae: p
sources:
  a: {uri: a.csv, @format: cvs}
stages:
  @b-c: {from: a}
  d:
    from: a
    do:
      - @fitler: x > 1
      - join: {with: a, @hwo: left}
      - limit: {@rows: -5}
    @gate: unique
outputs:
  d: {@too: out}
"""


def test_mistakes_of_form_are_told_together_before_those_of_meaning(folder: Path) -> None:
    expect(
        folder,
        FORM,
        "unknown key 'nmae'; did you mean 'name'?",
        "'format' cannot be 'cvs'; did you mean 'csv'?",
        "'b-c' is not a name; use letters, digits and underscores, such as 'b_c'",
        "unknown operation 'fitler'; did you mean 'filter'?",
        "unknown argument 'hwo' of join; did you mean 'how'?",
        "'rows' is -5, less than 0; write 0 or more",
        "'gate' must be a list, not 'unique'; start each rule with a dash",
        "unknown key 'too' of output 'd'; did you mean 'to'?",
    )


def test_every_problem_is_a_value_with_its_parts(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(_document("outputs: {b: {to: out}}"))
    with pytest.raises(lp.DefinitionError) as caught:
        lp.load("pipeline.yaml").compile()
    place = lp.Location("pipeline.yaml", 4, 11)
    assert caught.value.problems == (lp.Problem("unknown stage 'b'", place, "known stages: a"),)
    assert caught.value.exit_code == 2


def test_from_python_the_part_stands_in_place_of_the_position() -> None:
    data: dict[str, Any] = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a.csv", "contract": {"columns": {"x": "Int64", "z": "Int64"}}}},
        "stages": {"b": {"from": "a", "do": [{"drop": "z"}, {"filter": "y > 1"}]}},
        "outputs": {"b": {"to": "out"}},
    }
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_dict(data).compile()
    assert str(caught.value.problems[0]) == "stages.b.do[1].filter: unknown column 'y'; known columns: x"


SECRET = "hunter2-s3cr3t"
LEAKY = {
    "format": "{uri: '${TOKEN}'}",
    "mixed": "{uri: ['a.csv', '${TOKEN}/b.parquet']}",
    "missing file": "{uri: '${TOKEN}/a.parquet'}",
    "missing in a list": "{uri: ['${TOKEN}/a.parquet', 'b.parquet']}",
    "options": "{uri: 'memory://x/${TOKEN}/*.parquet', storage_options: {token: '${TOKEN}'}}",
    "new column": "{uri: '${TOKEN}.parquet', contract: {columns: {x: Int64}, on_new_column: fail}}",
}


@pytest.mark.parametrize("source", LEAKY.values(), ids=list(LEAKY))
def test_values_of_variables_never_show_in_errors(folder: Path, source: str) -> None:
    import traceback

    import polars as pl

    pl.DataFrame({"x": [1], "y": ["a"]}).write_parquet(folder / f"{SECRET}.parquet")
    text = _document(f"sources: {{a: {source}}}")
    with pytest.raises(lp.LazypipeError) as caught:
        lp.Pipeline.from_yaml(text).compile(env={"TOKEN": SECRET})
    shown = [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]
    assert not [part for part in shown if SECRET in part]


class Nothing:
    def read(self, after: object) -> None:
        return None


def test_values_of_variables_never_show_in_plans(folder: Path) -> None:
    import polars as pl

    (folder / SECRET).mkdir()
    pl.DataFrame({"x": [1]}).write_parquet(folder / SECRET / "a.parquet")
    text = """
version: 1
name: p
sources: {a: {uri: '${TOKEN}/a.parquet', storage_options: {token: '${TOKEN}'}}}
stages: {b: {from: a, do: [{filter: x > 0}]}}
outputs: {b: {to: 'out/${TOKEN}', storage_options: {token: '${TOKEN}'}}}
"""
    pipe = lp.Pipeline.from_yaml(text)
    plan = pipe.compile(env={"TOKEN": SECRET})
    shown = [plan.explain("b", kind) for kind in ("logical", "optimized", "physical")]
    assert "${TOKEN}/a.parquet" in shown[0]
    shown += [repr(plan), str(plan), repr(plan.nodes), repr(plan.segments), pipe.to_yaml(), plan.pipeline.to_yaml()]
    shown += [str(plan.preview()), repr(plan.outputs), repr(plan.redact), repr(plan)]
    shown += [repr(lp.stream(pipe, pull={"a": Nothing()}, env={"TOKEN": SECRET}))]
    assert not [part for part in shown if SECRET in part]
    assert plan.outputs["b"].to == str(folder / "out" / SECRET)


INDEPENDENT = """
version: 1
name: p
sources:
  a: {uri: a.csv, contract: {columns: {x: Int64, y: String}}}
  g: {uri: g.csv, contract: {columns: {x: Int64}}, event_time: z, gate: [{not_nul: x}]}
stages:
  b:
    from: a
    do:
      - filter: zz > 1
      - sort: nope
      - derive: {q: "zzz + 1"}
      - derive: {r: "q + 1"}
    gate: [{not_nul: x}, {not_null: gone}]
  c: {from: b, gate: [{in_sett: {column: q, values: [1]}}]}
  d:
    from: a
    do: [{limit: 5}, {sample: {fraction: 0.5, by: [no]}}, {distinct: {columns: [none]}}]
    gate: [{unique: missing}]
  e:
    from: d
    do: [{filter: other > 1}, {join: {with: nowhere, on: x}}, {filter: unknown > 1}]
    gate: [{not_empt: x}]
  f: {from: a, gate: [{foreign_key: {column: x, references: {to: nowhere, column: x}}}, {betwen: {column: x, min: 1}}]}
outputs: {b: {to: b}, c: {to: c}, d: {to: d}, e: {to: e}, f: {to: f}}
"""


def test_mistakes_of_a_stage_are_told_behind_others_that_they_do_not_depend_on() -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_yaml(INDEPENDENT).compile()
    assert sorted((p.where.line, p.what) for p in caught.value.problems if p.where is not None) == [
        (6, "unknown column 'z'"),
        (6, "unknown rule 'not_nul'"),
        (11, "unknown column 'zz'"),  # which leaves columns as they are
        (12, "unknown column 'nope'"),
        (13, "unknown column 'zzz'"),  # behind it nothing is known of columns
        (15, "unknown rule 'not_nul'"),
        (16, "unknown rule 'in_sett'"),
        (19, "unknown column 'no'"),
        (19, "unknown column 'none'"),
        (20, "unknown column 'missing'"),
        (23, "unknown column 'other'"),
        (23, "unknown input 'nowhere'"),
        (24, "unknown rule 'not_empt'"),
        (25, "unknown frame 'nowhere'"),
        (25, "unknown rule 'betwen'"),
    ]


@pytest.mark.parametrize("name", [n for n in ops.names() if ops.operation_class(n).keeps_columns])
def test_an_operation_that_keeps_columns_does(name: str) -> None:
    written = {
        "filter": "x > 1",
        "sort": "x DESC",
        "limit": 1,
        "distinct": {"columns": "x"},
        "sample": {"fraction": 0.5},
    }
    frame = pl.LazyFrame({"x": [1, 2, 2], "y": ["a", "b", "c"]})
    assert lp.apply({name: written[name]}, frame).collect_schema() == frame.collect_schema()


def test_keys_are_text_as_in_yaml() -> None:
    def told(**stage: object) -> str:
        data = {
            "version": 1,
            "name": "p",
            "sources": {"s": {"uri": "s.csv", "contract": {"columns": {"a": "Int64"}}}},
            "stages": {"t": {"from": "s", **stage}},
            "outputs": {"t": {"to": "out"}},
        }
        try:
            return ", ".join(lp.Pipeline.from_dict(data).compile().schema("t"))
        except lp.DefinitionError as error:
            return str(error)

    assert told(do=[{"derive": {1: "a + 1"}}]) == "a, 1"
    assert told(gate=[{1: "a"}]).startswith("stages.t.gate[0].1: unknown rule '1'; known rules: ")
    assert told(do=[{None: "a"}]).startswith("stages.t.do[0].None: unknown operation 'None'")
