"""Definitions that compile to plans."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lazypipe.api.forked import refuse_forked
from lazypipe.api.now import time_of_run
from lazypipe.api.plan import Plan, known_outputs
from lazypipe.compile.compiler import bind_outputs, compile_pipeline
from lazypipe.compile.sources.source import BoundSource, Recalled, Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.spec import loader, model
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import log_of

if TYPE_CHECKING:
    from lazypipe.plan.graph import Lineage
    from lazypipe.records.transport import Transport
    from lazypipe.run.panes import WindowHistory
    from lazypipe.run.pull import Pulled, Reader
    from lazypipe.run.replay import ReplayResult
    from lazypipe.run.trace import Trace

__all__ = ["Pipeline", "catalog", "load", "replay", "trace", "window_history"]


@dataclass(frozen=True)
class Pipeline(model.Pipeline):
    r"""A pipeline definition, ready to be compiled.

    Examples
    --------
    >>> text = "version: 1\nname: p\nsources: {a: {uri: a.csv}}\noutputs: {a: {to: out}}\n"
    >>> pipe = Pipeline.from_yaml(text)
    >>> Pipeline.from_yaml(pipe.to_yaml()) == pipe
    True
    """

    @classmethod
    def of(cls, spec: model.Pipeline) -> Self:
        """Return a specification as a definition that compiles; raises LazypipeError for anything else, such as a path."""
        if not isinstance(spec, model.Pipeline):
            raise LazypipeError(
                f"{type(spec).__name__} is not a definition; give lp.load(path), or what build() of a builder gives"
            )
        return cls(**{f.name: getattr(spec, f.name) for f in fields(spec)})

    @classmethod
    def from_yaml(cls, text: str, *, base: str | os.PathLike[str] = ".") -> Self:
        """Read a definition from YAML text; relative URIs start from ``base``."""
        return cls.of(loader.from_yaml(text, base=os.fspath(base)))

    @classmethod
    def from_json(cls, text: str, *, base: str | os.PathLike[str] = ".") -> Self:
        """Read a definition from JSON text; relative URIs start from ``base``."""
        return cls.of(loader.from_json(text, base=os.fspath(base)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: str | os.PathLike[str] = ".") -> Self:
        """Read a definition from plain data; relative URIs start from ``base``."""
        return cls.of(loader.from_dict(data, base=os.fspath(base)))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> None:
            """Say what is forgotten where something is asked for that only a plan has."""
            if name.startswith("_") or not hasattr(Plan, name):
                raise AttributeError(f"a definition has no attribute {name!r}", name=name, obj=self)
            raise AttributeError(f"a definition has no attribute {name!r}; compile it first: .compile().{name}")

    def to_yaml(self) -> str:
        """Return the definition as YAML; raises DefinitionError if part of it exists only in Python."""
        return loader.to_yaml(self)

    def to_json(self) -> str:
        """Return the definition as JSON; raises DefinitionError if part of it exists only in Python."""
        return loader.to_json(self)

    def compile(
        self,
        *,
        now: datetime | None = None,
        env: Mapping[str, str] | None = None,
        allow: Iterable[str] = (),
        outputs: Iterable[str] = (),
        params: Mapping[str, Any] | None = None,
        skip_unreadable: bool = False,
        **more: Any,
    ) -> Plan:
        """Compile the definition to a plan. Only the schemas of the sources are read. Parameters are passed by name, as values or text.

        ``now`` is the time that ``:now`` and rules about the past use. Default: the machine's clock.

        With ``outputs``, the plan contains only these outputs and what they depend on. The rest of the definition is checked only for mistakes
        that can be found without data.

        With ``skip_unreadable``, an output is left out of the plan if one of its sources is missing or does not fit its contract, as long as at
        least one other output can be made. A run makes the others, and reports an error for each output that was left out (``plan.lacking``).

        Raises
        ------
        LazypipeError
            If there is no such output.
        DefinitionError
            With every mistake found, each with file, line and column.
        SourceError
            If the schema of a source cannot be read; with ``skip_unreadable``, only if that leaves no output.
        RunError
            In a process that was forked from one that had used Polars: start it by ``spawn``.
        """
        refuse_forked()
        moment = time_of_run(now)
        if not isinstance(params, Mapping | None):
            raise LazypipeError(f"params is {params!r}, which is not a mapping; write {{name: value}}")
        values = {**(params or {}), **more}
        asked = known_outputs(outputs, self.outputs)
        compiled = compile_pipeline(
            self,
            values,
            now=moment,
            env=env,
            allow=allow,
            asked=asked,
            skip_unreadable=skip_unreadable,
            admit=partial(_whole, moment),
            recall=_recalled,
        )
        return Plan(**{f.name: getattr(compiled, f.name) for f in fields(compiled)})

    def status(self, *, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        r"""Return the same as ``plan.status()``, without compiling: only the outputs are looked at, so the sources need not be readable.

        Raises
        ------
        DefinitionError
            If the location of an output is not known.
        StorageError
            If a commit cannot be read.

        Examples
        --------
        >>> text = "version: 1\nname: p\nsources: {a: {uri: away.csv}}\noutputs: {a: {to: 'memory://out'}}\n"
        >>> Pipeline.from_yaml(text).status()
        [{'output': 'a', 'uri': 'memory://out', 'version': None, 'consumed': {}}]
        """
        from lazypipe.incremental import preview as previews

        faults: list[model.Fault] = []
        outputs, secrets = bind_outputs(self, os.environ if env is None else env, faults)
        if faults:
            raise loader.problems(faults, self.origin)
        return previews.status(self, outputs, uris.Redactor(tuple(secrets)))

    def pull(self, readers: Mapping[str, Reader], *, env: Mapping[str, str] | None = None) -> tuple[Pulled, ...]:
        r"""Read brokers, databases or APIs until nothing new comes, and store the rows as files for the next run.

        The source's ``uri`` says where the files go: a pattern in a folder (``pulled/orders/*.parquet``) gets one more file for each read; a
        single file (``pulled/orders.parquet``) is replaced, for readers that return everything each time. Each file stores the position after its
        rows, so the next pull continues from there, also after a crash.

        Parameters
        ----------
        readers
            Source name → the ``Reader`` for it.
        env
            Variables that the definition uses. Default: the environment of the process.

        Raises
        ------
        LazypipeError
            If there is no such source, if the object for it has no ``read``, or if it returns no rows together with a new position.
        DefinitionError
            If pulled files cannot be stored at the source's ``uri``.
        SourceError
            If a reader fails.
        StorageError, CommitConflict
            If files cannot be written, or if another process pulled the same rows meanwhile.

        Examples
        --------
        >>> import polars as pl
        >>> class Log:
        ...     def read(self, after):
        ...         begin = after or 0
        ...         return None if begin == 4 else (pl.DataFrame({"x": [begin, begin + 1]}), begin + 2)
        >>> text = "version: 1\nname: p\nsources: {log: {uri: memory://log/*.parquet}}\noutputs: {log: {to: memory://log-out}}\n"
        >>> pipe = Pipeline.from_yaml(text)
        >>> [(p.rows, p.position) for p in pipe.pull({"log": Log()})], pipe.pull({"log": Log()})
        ([(2, 2), (2, 4)], ())
        """
        from lazypipe.run.pull import Pulled, Puller

        puller, found = Puller(self, readers, os.environ if env is None else env), list[Pulled]()
        while came := puller.pull():
            found += came
        return tuple(found)


def _whole(now: datetime, outputs: Mapping[str, model.Output], source: BoundSource, found: Snapshot) -> Snapshot:
    # asked of each source, and what answers is needed only where a delivery is waited for
    if source.intake.expect is None and not source.intake.settle:
        return found
    from lazypipe.run.delivery import whole

    return whole(now, outputs, source, found)


def _recalled(outputs: Mapping[str, model.Output]) -> Callable[[BoundSource], Recalled]:
    listed = time.time_ns()
    # what answers is needed only where something was committed
    here = [uris.local_path(log_of(o.to)) for o in outputs.values() if uris.is_local(o.to)]
    if not any(map(os.path.isdir, here)):
        return lambda _: Recalled(listed=listed)
    from lazypipe.incremental.columns import recalled

    return recalled(outputs, listed)


def load(path: str | Path) -> Pipeline:
    """Read a definition from a YAML or JSON file. Relative URIs in it are relative to the file's folder.

    Raises
    ------
    DefinitionError
        With every mistake of form, each with file, line and column.
    """
    return Pipeline.of(loader.load(path))


def replay(
    pipeline: model.Pipeline | Plan,
    output: str,
    *,
    run: str | None = None,
    now: datetime | None = None,
    params: Mapping[str, Any] | None = None,
    actor: str | None = None,
    code: str | None = None,
    emit: Sequence[Transport] = (),
) -> ReplayResult:
    """Put an output's quarantined rows through its gate again: ``Plan.replay``, which also takes a definition.

    Parameters
    ----------
    params
        Parameter values, if a definition is given that must be compiled first.
    """
    plan = pipeline
    if not isinstance(plan, Plan):
        plan = Pipeline.of(plan).compile(now=now, outputs=[output], params=params)
    return plan.replay(output, run=run, now=now, actor=actor, code=code, emit=emit)


def trace(
    pipeline: model.Pipeline | Plan,
    output: str,
    key: Mapping[str, Any],
    *,
    most: int = 100,
    version: int | None = None,
    as_of: datetime | date | str | None = None,
    params: Mapping[str, Any] | None = None,
) -> Trace:
    """Find the source rows that made a row of an output: ``Plan.trace``, which also takes a definition.

    Parameters
    ----------
    params
        Parameter values, if a definition is given that must be compiled first.
    """
    plan = pipeline if isinstance(pipeline, Plan) else Pipeline.of(pipeline).compile(params=params)
    return plan.trace(output, key, most=most, version=version, as_of=as_of)


def catalog(pipelines: Iterable[model.Pipeline | Plan | str | Path], *, optimized: bool = False) -> Lineage:
    """Join the lineage of several pipelines that feed each other. A source is linked to the output that writes to the same URI.

    If nothing has been written there yet and the source has no contract, it has the columns that the output will have.

    Parameters
    ----------
    pipelines
        Plans, definitions (compiled with default parameters), or definition files.
    optimized
        Whether to include only columns that are needed by something.

    Returns
    -------
    Lineage
        The same methods as the lineage of one pipeline. Names start with the pipeline (``flights/flown.dep_delay``); this prefix can be
        omitted if the rest is unambiguous.

    Raises
    ------
    LazypipeError
        If two pipelines have the same name.

    Examples
    --------
    >>> from lazypipe.api.builder import pipeline
    >>> columns = {"columns": {"x": "Int64"}}
    >>> one = pipeline("one").source("raw", "/lake/raw.csv", contract=columns).stage("a", "raw").output("a", "/lake/a").build()
    >>> two = pipeline("two").source("a", "/lake/a", format="dataset", contract=columns).output("b", "/lake/b", from_="a").build()
    >>> list(catalog([one, two]).upstream("two/b.x"))
    ['two/a.x', 'one/a.x', 'one/raw.x']
    """
    from lazypipe.api.together import compile_together, several
    from lazypipe.plan.catalog import join

    given = [load(p) if isinstance(p, str | Path) else p for p in several(pipelines)]
    plans = []
    for plan in compile_together([p if isinstance(p, Plan) else Pipeline.of(p) for p in given], Pipeline.compile):
        if isinstance(plan, LazypipeError):
            raise plan
        plans.append(plan)
    return join(plan.lineage(optimized=optimized) for plan in plans)


def window_history(plan: Plan, output: str, key: Mapping[str, Any], window: Any) -> WindowHistory:
    """Return what each version of an output said about one window; see ``Plan.window_history``."""
    return plan.window_history(output, key, window)
