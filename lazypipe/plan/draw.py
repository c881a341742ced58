"""Lineage as diagrams: text for Graphviz and Mermaid."""

from __future__ import annotations

from collections.abc import Iterable

from lazypipe.plan.lineage import ALL, Column, Edge

__all__ = ["dot", "mermaid"]


def _columns(edges: Iterable[Edge]) -> dict[str, dict[str, str]]:
    """Return the columns by place, each with an identifier of its own."""
    found: dict[str, dict[str, str]] = {}
    number = 0
    for edge in edges:
        for column in (edge.source, edge.target):
            place = found.setdefault(column.dataset, {})
            if column.name not in place:
                place[column.name] = f"n{number}"
                number += 1
    return found


def _shown(name: str) -> str:
    return "(rows)" if name == ALL else name


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _entity(text: str) -> str:
    return '"' + text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;") + '"'


def _edges(edges: Iterable[Edge], ids: dict[str, dict[str, str]]) -> dict[tuple[str, str], tuple[bool, str]]:
    """Return pairs of identifiers, each with whether values flow and the subtypes."""
    found: dict[tuple[str, str], tuple[bool, list[str]]] = {}

    def identifier(column: Column) -> str:
        return ids[column.dataset][column.name]

    for edge in edges:
        pair = (identifier(edge.source), identifier(edge.target))
        direct, subtypes = found.get(pair, (False, []))
        subtype = edge.subtype + (" (masking)" if edge.masking else "")
        found[pair] = (direct or edge.type == "DIRECT", subtypes if subtype in subtypes else [*subtypes, subtype])
    return {pair: (direct, ", ".join(subtypes)) for pair, (direct, subtypes) in found.items()}


def dot(edges: Iterable[Edge]) -> str:
    """Return dependencies as a Graphviz graph: a cluster per place, dashed lines for what only decides.

    Examples
    --------
    >>> print(dot([Edge(Column("a", "x"), Column("b", "y"), "IDENTITY")]))
    digraph lineage {
      rankdir=LR; node [shape=box];
      subgraph "cluster_a" { label="a"; n0 [label="x"]; }
      subgraph "cluster_b" { label="b"; n1 [label="y"]; }
      n0 -> n1 [label="IDENTITY", style=solid];
    }
    """
    edges = tuple(edges)
    places = _columns(edges)
    lines = ["digraph lineage {", "  rankdir=LR; node [shape=box];"]
    for place, columns in places.items():
        nodes = " ".join(f"{i} [label={_quoted(_shown(c))}];" for c, i in columns.items())
        lines.append(f"  subgraph {_quoted('cluster_' + place)} {{ label={_quoted(place)}; {nodes} }}")
    for (a, b), (direct, said) in _edges(edges, places).items():
        lines.append(f"  {a} -> {b} [label={_quoted(said)}, style={'solid' if direct else 'dashed'}];")
    return "\n".join([*lines, "}"])


def mermaid(edges: Iterable[Edge]) -> str:
    """Return dependencies as a Mermaid flowchart: a subgraph per place, dotted lines for what only decides.

    Examples
    --------
    >>> print(mermaid([Edge(Column("a", "x"), Column("b", "*"), "FILTER")]))
    flowchart LR
      subgraph p0 ["a"]
        n0["x"]
      end
      subgraph p1 ["b"]
        n1["(rows)"]
      end
      n0 -. "FILTER" .-> n1
    """
    edges = tuple(edges)
    places = _columns(edges)
    lines = ["flowchart LR"]
    for number, (place, columns) in enumerate(places.items()):
        lines.append(f"  subgraph p{number} [{_entity(place)}]")
        lines += [f"    {i}[{_entity(_shown(c))}]" for c, i in columns.items()]
        lines.append("  end")
    for (a, b), (direct, said) in _edges(edges, places).items():
        lines.append(f"  {a} -- {_entity(said)} --> {b}" if direct else f"  {a} -. {_entity(said)} .-> {b}")
    return "\n".join(lines)
