"""What a run says of itself: its environment, its data, its model card."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from limner.data import Dataset
from limner.distributed import ALONE, World


def environment(world: World = ALONE) -> dict[str, Any]:
    """What a bit-for-bit repetition needs to be the same."""
    from importlib.metadata import version

    device = world.device
    return {
        "limner": version("limner"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": world.size,
    }


def warn_if_changed(then: dict[str, Any], world: World = ALONE) -> None:
    """Say on standard error where the environment is not the one that a run began in, as far as it has told."""
    now, then = environment(world), {"processes": 1, **then}
    changed = [f"{name} was {then[name]}, is {now[name]}" for name in now if then.get(name, now[name]) != now[name]]
    if changed:
        print(f"the run began elsewhere ({'; '.join(changed)}): it goes on, not bit for bit", file=sys.stderr)


def described(dataset: Dataset) -> dict[str, Any]:
    """A data set, as ``recipe.json`` keeps it."""
    return {
        "source": dataset.report.source,
        "pictures": dataset.report.used,
        "fingerprint": dataset.fingerprint,
        "labels": list(dataset.labels),
        "size": list(dataset.spec.size),
        "mode": dataset.spec.mode,
        "bits": dataset.spec.bits,
        "summary": dataset.report.summary(),
    }


def card(written: dict[str, Any], run: Path, *, conditional: bool) -> str:
    """The model card of a snapshot, in Markdown.

    Args:
        written: the content of ``recipe.json``.
        run: the run's folder, as the user called it.
        conditional: whether the model takes classes.
    """
    data, plan = written["data"], written["plan"]
    deep = f" of {data['bits']} bits" if data.get("bits", 8) != 8 else ""
    classes = f"{len(data['labels'])} classes" if conditional else "no classes"
    prompts = written.get("prompts") or []
    if prompts:
        classes = "captions"
    said = f", prompt={json.dumps(prompts[0], ensure_ascii=False)}" if prompts else ""
    kind, use = (
        ("A generator", f"pictures = limner.sample(model, 16{said})")
        if written.get("draws", True)
        else ("A codec", "latents = model.net.encode(pictures)")
    )
    return (
        f"# {written['recipe']} on {data['source']}\n\n"
        f"{kind} of {data['size'][0]}x{data['size'][1]} {data['mode']} pictures{deep} with {classes}, trained by "
        f"limner {written['environment']['limner']} with the recipe `{written['recipe']}`.\n\n"
        f"- data: {data['summary']}; fingerprint `{data['fingerprint'][:12]}`\n"
        f"- images seen: {plan['images']:,}, precision {plan['precision']}, seed {written['config']['seed']}\n\n"
        f"```python\nimport limner\n\nmodel = limner.load({json.dumps(str(run), ensure_ascii=False)})\n"
        f"{use}\n```\n"
    )


def expected_images(budget: dict[str, Any], pace: float, spent: float) -> float:
    """How many images a run of this budget shows.

    Args:
        budget: of minutes or of images.
        pace: images per second that it was tried at, of all processes together.
        spent: seconds of a budget in minutes that are gone already.
    """
    return float(budget["images"] or max(0.0, budget["minutes"] * 60 - spent) * pace)


def expectation(written: dict[str, Any], parameters: int, pace: float, memory: int, images: float) -> str:
    """What a run will be, in one line, before it begins.

    Args:
        written: the content of ``recipe.json``.
        parameters: of its networks.
        pace: images per second that it was tried at, of all processes together.
        memory: bytes that one process held at most.
        images: that it will show.
    """
    data, budget = written["data"], written["budget"]
    height, width = data["size"]
    length = f"{budget['minutes']:g} minutes" if budget["minutes"] else _duration(images / pace)
    return (
        f"{written['recipe']}: {parameters:,} parameters, {data['pictures']:,} pictures of {width}x{height} "
        f"{data['mode']}; here about {pace:,.0f} images/s and {memory / 2**30:.1f} GiB, so that {length} show "
        f"{images:,.0f} images, each picture {_times(images / data['pictures'])}"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"about {seconds / size:,.0f} {unit}"
    return "about a second" if seconds < 1.5 else f"about {seconds:,.0f} seconds"


def _times(times: float) -> str:
    return "at most once" if times <= 1 else f"about {times:,.0f} times"


def peak_memory(device: torch.device | None = None) -> int:
    """Bytes that this process held at most, or that it held of a device with memory of its own."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # what follows is, on Linux, at least what the parent held when it started this process
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
