"""What the stages found, as one page of Markdown: what the card is, what is right, how fast it is, what to do next.

Loads nothing but Python's own library, so that a page is written whatever went wrong.
"""

from __future__ import annotations

from collections.abc import Callable

EXACT = {  # figures of stage 1, the largest that rounding explains, and what they are
    "logits: largest difference": (1e-2, "one model's logits, on the card and on the CPU, differ by at most"),
    "recorded beside plain: largest difference of logits": (2e-2, "recorded and plain steps, in logits, by at most"),
    "float64 beside the CPU: largest difference of weights": (1e-9, "in float64 card and CPU, in weights, by at most"),
}
GOAL = 10.0  # minutes for 512 oracles of the competition's size


def page(found: list[dict]) -> str:
    """The page: what every stage answers, and its figures. `found` is what drive.py keeps of each stage."""
    facts = next((about["found"] for about in found if about["name"] == "versions"), {})
    lines = ["# This card", "", _what_it_is(facts), "", "| | question | answer | seconds |", "|---|---|---|---|"]
    lines += [f"| {a['stage']} | {a['asks']} | {answer(a)} | {a['seconds']:.0f} |" for a in found]
    total = sum(about["seconds"] for about in found)
    lines += ["", f"{sum(a['state'] == 'done' for a in found)} of {len(found)} stages were done, in {total:.0f} s."]
    for about in found:
        lines += _troubles(about)
    for about in found:
        lines += TABLES[about["name"]](about["found"]) if about["name"] in TABLES else []
    return "\n".join(lines) + "\n"


def _what_it_is(facts: dict) -> str:
    if not facts.get("hardware"):
        return f"No card was found: {facts.get('there is no card', 'stage 0 did not come so far')}."
    known = {key: facts.get(key, "unknown") for key in ("torch", "python", "commit", "processors", "nvidia-smi")}
    about = f"{', '.join(facts.get('cards', []))}; torch {known['torch']}, Python {known['python']}, commit "
    return f"{about}{known['commit']}, {known['processors']} processors. nvidia-smi says: {known['nvidia-smi']}"


def answer(about: dict) -> str:
    """A sentence on what a stage found; why it found nothing, if so."""
    figures = about["found"]
    try:
        said = ANSWERS[about["name"]](figures) if about["name"] in ANSWERS else ""
    except (KeyError, TypeError, ValueError):  # it did not come so far
        said = ""
    if about["state"] == "done":
        return said or "done"
    return f"**{about['state']}**: {about.get('reason', '')}" + (f". Until then: {said}" if said else "")


def _versions(figures: dict) -> str:
    fork = figures["CUDA in a fork"], figures["a tensor in a fork"]
    missing = [name for name, version in figures["packages"].items() if version == "missing"]
    said = "CUDA starts in a fork" if fork[1] == "works" else f"CUDA does not start in a fork ({fork[1]})"
    check = figures.get("check", "not done")
    said += f"; check: {check if isinstance(check, str) else '; '.join(check)}"
    return said + (f"; not installed: {', '.join(missing)}" if missing else "")


def _exactness(figures: dict) -> str:
    parts = []
    for name, (most, words) in EXACT.items():
        if name in figures:
            fine = "" if figures[name] <= most else f" (**too much**: {most:g} would be rounding)"
            parts.append(f"{words} {figures[name]:.1e}{fine}")
    return "; ".join(parts)


def _speed(figures: dict) -> str:
    minutes = figures["minutes for 512 oracles"]
    said = f"512 oracles take {minutes:.1f} minutes"
    if "minutes for 512 oracles in TF32" in figures:
        said += f", in TF32 {figures['minutes for 512 oracles in TF32']:.1f}"
    said += f"; the goal is {GOAL:.0f}. {figures['TFLOP/s']:.1f} TFLOP/s, {figures['GB/s']:.0f} GB/s"
    idle = figures.get("profile", {}).get("idle")
    return said + (f", idle {idle:.0%}" if isinstance(idle, float) else "")


def _grading(figures: dict) -> str:
    card, cpu = figures["on the card"], figures.get("on a CPU")
    low, high = card["interval"] or (float("nan"),) * 2
    said = f"{figures['submission']} scores {card['score']:.4f} ({low:.4f} to {high:.4f}) with {card['runs']} runs"
    if cpu is None:
        return said
    inside = low <= cpu["score"] <= high
    verdict = "which lies in the interval" if inside else "**which lies outside**"
    more = "" if cpu["runs"] == card["runs"] else "; the numbers of runs differ, and fewer runs score higher"
    return f"{said}; on a CPU {cpu['score']:.4f} with {cpu['runs']}, {verdict}{more}"


def _runs(figures: dict) -> str:
    rates = figures["runs per minute"]
    best = max(rates, key=rates.get)
    said = f"{best} processes make {rates[best]:.1f} runs a minute, one makes {rates['1']:.1f}"
    mps = figures.get("MPS", "not tried")
    if isinstance(mps, str):
        return f"{said}; MPS: {mps}"
    best = max(mps, key=mps.get)
    return f"{said}; under MPS {best} processes make {mps[best]:.1f}"


def _pools(figures: dict) -> str:
    halves = figures["halves of float32"]
    said = f"float32 against TF32 scores {figures['float32 against TF32']:.3f}, halves of float32 {halves:.3f}"
    shipped = figures.get("float32 against the shipped ones")
    return said + ("" if shipped is None else f", float32 against the shipped ones {shipped:.3f}")


def _checks(figures: dict) -> str:
    said = figures["checks"]
    broken = [name for name, words in said.items() if words != "keeps the contract"]
    late = figures.get("not checked for lack of time", [])
    more = f"; no time for {', '.join(late)}" if late else ""
    return f"{len(said) - len(broken)} of {len(said)} do" + (f"; **not {', '.join(broken)}**" if broken else "") + more


def _sandbox(figures: dict) -> str:
    check = figures.get("check in the sandbox", "not done")
    return f"level {figures['level']}: {check if isinstance(check, str) else '; '.join(check)}"


def _memory(figures: dict) -> str:
    before, after = figures["layout before and after"]
    return f"{figures['networks trained of 4']} of 4 networks were trained; {before} became {after}"


ANSWERS: dict[str, Callable[[dict], str]] = {
    "versions": _versions, "exactness": _exactness, "speed": _speed, "grading": _grading, "runs": _runs,
    "pools": _pools, "checks": _checks, "sandbox": _sandbox, "memory": _memory,
}  # fmt: skip


def _troubles(about: dict) -> list[str]:
    """What a stage that did not come to its end printed last."""
    if about["state"] in ("done", "skipped") or not about.get("printed"):
        return []
    return ["", f"## Stage {about['stage']} {about['state']}", "", "```", *about["printed"], "```"]


def _table_of_speed(figures: dict) -> list[str]:
    rates = figures.get("steps of one network per second", {})
    lines = ["", "## Oracles", "", "| layout | steps of one network per second |", "|---|---|"] if rates else []
    lines += [f"| {layout} | {rate:,.0f} |" for layout, rate in rates.items()]
    if "the same in TF32" in figures:
        lines.append(f"| {figures.get('best layout', 'the best')}, TF32 | {figures['the same in TF32']:,.0f} |")
    if loader := figures.get("loader"):
        ours, plain = loader["loader_batches"], loader["loader_plain_batches"]
        lines += ["", f"The loader makes {ours:,.0f} batches of 64 a second, a stock DataLoader {plain:,.0f}."]
    kernels = figures.get("profile", {}).get("kernels", [])
    lines += ["", "| kernel | share of the card's time | times |", "|---|---|---|"] if kernels else []
    return lines + [f"| `{k['name'].replace('|', '/')}` | {k['share']:.1%} | {k['times']} |" for k in kernels]


def _table_of_runs(figures: dict) -> list[str]:
    rates, mps = figures.get("runs per minute", {}), figures.get("MPS", {})
    lines = ["", "## Runs", "", "| processes | runs a minute |", "|---|---|"] if rates else []
    lines += [f"| {count} | {rate:.1f} |" for count, rate in rates.items()]
    return lines + ([f"| {n}, MPS | {rate:.1f} |" for n, rate in mps.items()] if isinstance(mps, dict) else [])


TABLES: dict[str, Callable[[dict], list[str]]] = {"speed": _table_of_speed, "runs": _table_of_runs}
