"""The report as one self-contained HTML page: no script, no file beside it, every text escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from datasets_app.formats.pictures import decode
from workers.recipes.evaluation.figures import is_mistake, mistake_record
from workers.recipes.evaluation.outcomes import Outcome

MAX_PICTURES = 100
THUMBNAIL = (320, 240)

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def write_page(report: Mapping[str, Any], outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the page of `report`; the pictures of the mistakes come from `outcomes`."""
    title = f"Evaluation of {'an' if report['kind'] == 'expert' else 'a'} {report['kind']}"
    body = [
        f"<h1>{title}</h1>",
        f'<p class="note">{escape(report["note"])}</p>' if report["note"] else "",
        _facts(report),
        _shares(report),
        _confusion(report["routing"]["confusion"]) if "routing" in report else "",
        _latency(report["latency_ms"]),
        _mistakes([outcome for outcome in outcomes if is_mistake(outcome)]),
    ]
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>{''.join(body)}</main></body></html>\n",
        encoding="utf-8",
    )


def _facts(report: Mapping[str, Any]) -> str:
    data, subject = report["data"], report["subject"]
    rows = [("Samples", f"{data['n']} of split {data['split']}"), ("Dataset", data["dataset"])]
    if report.get("left_out"):
        rows.append(("Left out", f"{report['left_out']} more that the adapter was trained on"))
    rows += [(name.capitalize(), digest) for name, digest in subject.items() if isinstance(digest, str)]
    rows += [(f"Expert {name}", digest) for name, digest in subject["experts"].items()]
    cells = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<dl>{''.join(cells)}</dl>"


def _shares(report: Mapping[str, Any]) -> str:
    rows: list[tuple[str, Mapping[str, Any]]] = []
    if "routing" in report:
        routing = report["routing"]
        rows += [("Routing accuracy", routing["accuracy"]), ("Routing macro-F1", routing["macro_f1"])]
        rows += [(f"Recall of {label}", recall) for label, recall in routing["recall"].items()]
    for key, name in (("end_to_end", "End to end"), ("answers", "Answers")):
        if key in report:
            rows += _answer_rows(name, report[key])
    for label, figures in report.get("experts", {}).items():
        rows += _answer_rows(f"{label}, given its own samples", figures)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{_percent(figure["value"])}</td>'
        f'<td class="number">{_percent(figure["ci_low"])} to {_percent(figure["ci_high"])}</td>'
        f'<td class="number">{figure["n"]}</td><td>{_bar(figure)}</td></tr>'
        for name, figure in rows
    )
    return (
        "<h2>Figures</h2><table><thead><tr><th>Figure</th><th>Value</th><th>95% interval</th><th>n</th>"
        f'<th class="bar"><span>0%</span><span>50%</span><span>100%</span></th></tr></thead>{lines}</table>'
        '<p class="small">Intervals are Wilson score intervals; that of macro-F1 is a percentile bootstrap, which '
        "has no width where no mistake was seen.</p>"
    )


def _answer_rows(name: str, figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{name}: valid tool call", figures["valid"]), (f"{name}: exact", figures["exact"])]


def _bar(figure: Mapping[str, Any]) -> str:
    low, high, value = (200 * figure[key] for key in ("ci_low", "ci_high", "value"))
    return (
        '<svg viewBox="-4 0 208 16" width="208" height="16" role="img" aria-label="interval">'
        '<line x1="0" y1="8" x2="200" y2="8" class="axis"/>'
        f'<line x1="{low:.1f}" y1="8" x2="{high:.1f}" y2="8" class="interval"/>'
        f'<circle cx="{value:.1f}" cy="8" r="4" class="value"/></svg>'
    )


def _confusion(confusion: Mapping[str, Any]) -> str:
    labels, matrix = confusion["labels"], confusion["matrix"]
    head = "".join(f"<th><span>{escape(label)}</span></th>" for label in labels)
    lines = ""
    for number, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        total = sum(row)
        cells = ""
        for column, count in enumerate(row):
            kind = "hit" if column == number else "miss"
            strength = round(count / total, 3) if total else 0
            cells += f'<td class="{kind if count else "none"}" style="--strength:{strength}">{count}</td>'
        lines += f'<tr><th scope="row">{escape(label)}</th>{cells}<td class="number">{total}</td></tr>'
    return (
        '<h2>Confusion matrix</h2><table class="confusion"><thead><tr><th>right label ↓, answered →</th>'
        f"{head}<th>n</th></tr></thead>{lines}</table>"
    )


def _latency(latency: Mapping[str, Any]) -> str:
    if not latency["n"]:
        return ""
    parts = ", ".join(f"{name} {value:g} ms" for name, value in latency.items() if name != "n")
    return f"<h2>Latency</h2><p>One request at a time, n = {latency['n']}: {parts}.</p>"


def _mistakes(mistakes: Sequence[Outcome]) -> str:
    if not mistakes:
        return "<h2>Mistakes</h2><p>None among these samples.</p>"
    shown = mistakes[:MAX_PICTURES]
    rest = f" The first {len(shown)} are shown; report.json lists all." if len(mistakes) > len(shown) else ""
    figures = "".join(_mistake(outcome) for outcome in shown)
    return f'<h2>Mistakes</h2><p>{len(mistakes)} samples.{rest}</p><div class="mistakes">{figures}</div>'


def _mistake(outcome: Outcome) -> str:
    record = mistake_record(outcome)
    lines = [f"<b>{escape(record['id'])}</b>", f"<q>{escape(record['prompt'])}</q>"]
    if "routed" in record:
        chances, routed, right = record["probabilities"], record["routed"], record["label"]
        verdict = "right" if record["correct"] else "wrong"
        lines.append(
            f'<span class="{verdict}">routed to {escape(routed)} ({_percent(chances[routed])})</span>, '
            f"right is {escape(right)} ({_percent(chances.get(right, 0.0))})"
        )
    if "text" in record:
        lines.append(f"answered<pre>{escape(record['text'] or '—')}</pre>")
        lines.append(f"expected<pre>{escape(str(record['expected']))}</pre>")
    caption = "".join(f"<div>{line}</div>" for line in lines)
    picture = f'<img alt="screenshot" loading="lazy" src="{_thumbnail(outcome.sample.image())}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _thumbnail(encoded: bytes) -> str:
    small = decode(encoded)
    small.thumbnail(THUMBNAIL)
    out = io.BytesIO()
    small.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
