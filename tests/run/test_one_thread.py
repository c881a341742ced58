"""Taps run on the streaming engine's own threads: if one started a streaming query, all threads could wait for each other.

With one thread that is certain, so here everything that a run puts into a query runs on one thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
import polars as pl
import lazypipe as lp
import lazypipe.gates.tap as tap

tap._SPILL_BYTES = 1_000
base = Path(sys.argv[1])
rows = pl.DataFrame({"k": range(300_000)}).with_columns(
    g=pl.col("k") % 7,
    x=pl.col("k").cast(pl.String),
    v=pl.when(pl.col("k") % 1_000 == 0).then(None).otherwise(pl.col("k") * 1.5),
)
rows = pl.concat([rows, rows.head(3)])
for i in range(6):
    rows.slice(i * 50_001, 50_001).write_parquet(base / f"rows-{i}.parquet")
    rows.slice(i * 50_001, 50_001).write_csv(base / f"rows-{i}.csv")
pl.DataFrame({"g": range(7), "name": list("abcdefg")}).write_csv(base / "names.csv")

def pipe(source, action):
    return (
        lp.pipeline("p", base=str(base), state="state-" + action)
        .source("rows", source, gate=[
            {"not_null": {"columns": "v", "action": action}},
            {"unique": {"columns": "k", "action": action}},
            {"unique": {"columns": ["k", "x"], "action": "warn"}},
        ])
        .source("names", "names.csv")
        .stage("joined", "rows", do=[
            {"cast": {"columns": {"x": "Int16"}, "on_error": "null"}},
            {"join": {"with": "names", "on": "g", "how": "left", "validate": "m:1"}},
        ], gate=[{"expression": {"condition": "g <> 3", "action": action}}])
        .stage("sums", "joined", do=[{"aggregate": {"by": "name", "aggregate": {"n": "count(*)", "v": "sum(v)"}}}])
        .output("joined", "out/joined", partition_by="name")
        .output("sums", "out/sums.csv", format="csv")
        .build()
    )

for source in ("rows-*.parquet", "rows-*.csv"):
    for action in ("quarantine", "drop", "warn"):
        result = pipe(source, action).compile().run(run=f"{action}-{source[7:]}")
        result.raise_for_status()
        gates = result.gates
        print(gates["rows"].rows, gates["rows"].good, gates["joined"].good)

# windows that are judged on the way, of which one of two has rows enough
times = rows.select(t=pl.datetime(2024, 1, 1) + pl.duration(seconds=pl.col("k") // 10), x="x").head(30_000)
times.write_parquet(base / "times.parquet")
windows = (
    lp.pipeline("w", base=str(base), state="state-windows")
    .source("times", "times.parquet", event_time="t", watermark={"delay": "0s"})
    .stage("windows", "times", do=[{"window": {
        "time": "t", "every": "15m", "by": "x", "emit": "on_close", "aggregate": {"n": "count(*)", "m": "median(length(x))"},
        "expect": {"rows": 9_000}, "on_partial": "emit", "deadline": "1h", "partial": "p",
    }}])
    .output("windows", "out/windows")
    .build()
)
windows.compile().run().raise_for_status()
print(*lp.scan(str(base / "out/windows")).select(pl.len(), pl.col("p").sum()).collect().row(0))
"""


def test_nothing_waits_for_its_own_thread(tmp_path: Path) -> None:
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # 300 rows have no v; keys 0, 1, 2 stand twice, and key 0 has no v either: 5 rows that are not yet counted
    kept = 300_003 - 301 - 4
    lines = done.stdout.split("\n")
    assert lines[0].split()[:2] == ["300003", str(kept)]
    assert lines[0] == lines[1] == lines[3] == lines[4]
    assert lines[2] == lines[5] == f"300003 300003 {300_003}"
    assert lines[6] == "27000 0"
