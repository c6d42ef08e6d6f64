"""The leaks that services have told of."""

from __future__ import annotations

from otelstream.findings import Kind, Severity
from otelstream.view.model import Choice, FindingRow, TimeRange
from otelstream.view.store.read_scope import S, Scope, to_ns
from otelstream.view.verdict import CURRENT_S

_SEVERITIES = [severity.value for severity in Severity]
_KINDS = [kind.value for kind in Kind]

_FINDINGS = """
SELECT process, kind, method, side, severity, holder, growth, unit, evidence, advice, first_ns, last_ns FROM finding
WHERE (:method IS NULL OR method IN ('', :method)) AND (:side IS NULL OR side IN ('', :side))
"""


def findings(scope: Scope, choice: Choice, time_range: TimeRange) -> list[FindingRow]:
    """Those told of within the range or since 10 min before it, current ones first, the worst first.

    Of the choice, service, process, method and side count; a leak that names no method is every method's.
    """
    end_ns = min(to_ns(time_range.end), scope.now_ns)
    since_ns = end_ns - to_ns(CURRENT_S)
    start_ns = min(to_ns(time_range.start), since_ns)
    values = {"method": choice.method, "side": choice.side}
    found = []
    for number, *told, growth, unit, evidence, advice, first_ns, last_ns in scope.connection.execute(_FINDINGS, values):
        process = scope.processes.get(number)
        if process is None or choice.service not in (None, process.service) or choice.process not in (None, number):
            continue
        told_ns = last_ns + max(end_ns - scope.own_ns(number, end_ns), 0)
        if first_ns > to_ns(scope.widened(number, time_range).end) or told_ns < start_ns:
            continue
        kind, method, side, severity, holder = told
        row = FindingRow(
            process=number,
            service=process.service,
            kind=kind,
            method=method,
            side=side,
            severity=severity,
            holder=holder,
            growth=growth,
            unit=unit,
            evidence=evidence,
            advice=advice,
            first=first_ns / S,
            last=last_ns / S,
            is_current=told_ns >= since_ns and not scope.is_gone(process, end_ns),
        )
        found.append(row)
    return sorted(found, key=_rank)


def _rank(row: FindingRow) -> tuple[bool, int, int, float, str, str, int]:
    """Current ones first, then the order of ``verdict.py``: severity, kind, growth."""
    severity = _SEVERITIES.index(row.severity) if row.severity in _SEVERITIES else 0
    kind = _KINDS.index(row.kind) if row.kind in _KINDS else len(_KINDS)
    return not row.is_current, -severity, kind, -(row.growth or 0.0), row.method, row.side, row.process
