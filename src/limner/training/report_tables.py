"""The report's tables: measures with receipts, cost, settings; and the lines that use the model next."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from limner.data import DataConfig
from limner.metrics import METRICS
from limner.metrics.measures import LABEL_ACCURACY
from limner.training.report_run import Run, duration, escaped, mapping, number

_OWN: dict[str, str] = {measure.label or name: measure.meaning for name, measure in METRICS.items()}
#: What a measure says, by how its name begins.
MEANINGS: dict[str, str] = {
    **_OWN,
    **{f"class_{start}": f"Within each class, averaged over classes: {said}" for start, said in _OWN.items()},
    "fid": "The distance through Inception-v3 of 2015: the Fréchet Inception Distance.",
    "class_fid": "That distance within each class, averaged over classes.",
    "inception_score": "How surely and how variously Inception-v3 names classes; real pictures are not looked at.",
    "psnr": "Peak signal-to-noise ratio, in decibels, of training pictures that the codec gives back.",
    "ssim": "Structural similarity of training pictures and what the codec gives back of them; 1 if they are the same.",
    "codebook_use": "Share of the codes that occur in training pictures.",
    LABEL_ACCURACY: "Share of samples that a classifier takes for what they were asked to be.",
}
ARROWS: dict[str, str] = {"lower": "↓ lower", "higher": "↑ higher"}


def measures(run: Run) -> str:
    """A line a measure: value, interval, what real held-out pictures score, which way is better, the receipt."""
    if not run.rows:
        return ""
    lines = "".join(map(_measure, run.rows))
    told = "".join(f'<p class="small">{escaped(note)}.</p>' for note in run.notes)
    return (
        '<h2>Measures</h2><div class="scroll"><table><thead><tr><th scope="col">Measure</th>'
        '<th scope="col">Samples, 95 % interval</th><th scope="col">Real held-out pictures</th>'
        f'<th scope="col">Better</th></tr></thead><tbody>{lines}</tbody></table></div>{told}'
    )


def _measure(row: Mapping[str, Any]) -> str:
    name = str(row["name"])
    receipt = row.get("receipt")
    shown = f"<details><summary>Receipt</summary>{escaped(receipt)}</details>" if receipt else ""
    return (
        f'<tr><th scope="row"><code>{escaped(name)}</code><div class="small">{escaped(meaning(name))}{shown}</div></th>'
        f'<td class="n"><strong>{number(row.get("value"))}</strong>'
        f'<div class="small">{number(row.get("low"))} to {number(row.get("high"))}</div></td>'
        f'<td class="n">{number(row.get("real"))}</td><td class="n">{ARROWS.get(str(row.get("better")), "")}</td></tr>'
    )


def meaning(name: str) -> str:
    """What a measure says, by the name that carries its protocol."""
    return next((text for start, text in MEANINGS.items() if name.startswith(f"{start}_")), "")


def cost(run: Run) -> str:
    """Where the time went, and what the model takes."""
    seconds = run.seconds
    if not seconds:
        return ""
    total = sum(seconds.values()) or 1.0
    bar = "".join(
        f'<span class="c{i % 5}" style="width:{100 * part / total:.2f}%"></span>'
        for i, part in enumerate(seconds.values())
    )
    keys = "".join(
        f'<li><span class="key c{i % 5}"></span>{escaped(name)} {duration(part)}</li>'
        for i, (name, part) in enumerate(seconds.items())
    )
    training = max(seconds.get("training", total), 1e-9)
    facts = {
        "Images a second, in training": f"{run.done.get('images', 0) / training:,.0f}",
        "Parameters": f"{run.done.get('parameters', 0):,}",
        "Floating-point operations a training image": f"{run.done.get('flops_per_image', 0) / 1e6:,.0f} M",
        "Memory at most": f"{run.done.get('peak_memory_bytes', 0) / 2**20:,.0f} MiB",
        "Processes": str(run.done.get("processes", 1)),
        "Interruptions": str(run.done.get("interrupted", 0)),
        "Steps skipped, a loss or gradient not being finite": str(run.done.get("skipped_steps", 0)),
        "Returns to an earlier state": str(run.done.get("roll_backs", 0)),
    }
    guidances = mapping(run.done.get("guidances"))
    if guidances:
        facts["Distances of samples by their guidance"] = ", ".join(
            f"{k}: {float(v):.3g}" for k, v in guidances.items()
        )
    rows = "".join(f'<tr><th scope="row">{k}</th><td class="n">{escaped(v)}</td></tr>' for k, v in facts.items())
    return (
        f'<h2>Cost</h2><p>{duration(total)} in all.</p><div class="stack" aria-hidden="true">{bar}</div>'
        f'<ul class="keys small">{keys}</ul><table>{rows}</table>'
    )


def use(run: Run) -> str:
    """Lines to copy: a shell's and Python's, quoted for each."""
    where = shlex.quote(str(run.folder))
    reference = " ".join(map(shlex.quote, (str(run.data.get("source", "SOURCE")), *_brought(run))))
    lines = [f"limner sample {where} -n 64 --out grid.png", f"limner evaluate {where} --reference {reference}"]
    python = "pictures = limner.sample(model, 16, seed=0)"
    if not run.draws:
        lines = [f"limner reconstruct {where} --reference {reference}"]
        python = "latents = model.net.encode(pictures)  # (N, C, H, W) in [-1, 1]\nback = model.net.decode(latents)"
    if not run.done:
        lines = [f"limner train --resume {where}", *lines]
    load = f"import limner\n\nmodel = limner.load({json.dumps(str(run.folder), ensure_ascii=False)})"
    code = f"{load}\n{python}"
    shell = "\n".join(lines)
    return f"<h2>Use it</h2><pre><code>{escaped(shell)}</code></pre><pre><code>{escaped(code)}</code></pre>"


def _brought(run: Run) -> Iterator[str]:
    """What ``limner evaluate`` cannot tell from a model: how the training pictures were brought to its size."""
    given = mapping(run.recipe.get("source"))
    for name in ("fit", "background", "window", "limit"):
        default = getattr(DataConfig(""), name)
        plain = list(default) if isinstance(default, tuple) else default
        value = given.get(name, plain)
        if value != plain:
            yield f"--reference.{name}"
            yield from map(str, value if isinstance(value, list) else [value])


def settings(run: Run) -> str:
    """All of ``recipe.json``, folded."""
    parts = {"Data": "data", "Recipe": "config", "Plan": "plan", "Environment": "environment"}
    found = {title: mapping(run.recipe.get(key)) for title, key in parts.items()}
    blocks = [
        f"<details><summary>{title}</summary>{_nested(values)}</details>" for title, values in found.items() if values
    ]
    return f"<h2>Settings</h2>{''.join(blocks)}" if blocks else ""


def _nested(values: Mapping[str, Any]) -> str:
    rows = []
    for name, value in values.items():
        shown = _nested(value) if isinstance(value, Mapping) else escaped(_plain(value))
        rows.append(f'<tr><th scope="row">{escaped(name)}</th><td>{shown}</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
