"""`atrium explain` and `atrium top`: what became of a request, and what is going on."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table

from atrium.cli.door import Door, door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import console, print_json, size
from atrium.core.errors import Unavailable

REFRESH = 1.0
SHOWN = 12
ID_WIDTH = 16
Record = dict[str, Any]


def explain_command(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="From an answer's x-request-id")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Tell what became of a request: who called, which endpoint was chosen and why, tries, waits, tokens."""

    async def work() -> Record:
        async with door(loaded(data_dir, config)) as api:
            return await api.get(f"/api/admin/requests/{request_id}")

    record = run(work())
    if as_json:
        print_json(record)
    else:
        print("\n".join(sentences(record)))


def sentences(record: Record) -> list[str]:
    who = record["caller"] or "an anonymous caller"
    lines = [f"{record['method']} {record['path']} from {who} at {record['address']}"]
    took = f"in {record['seconds'] * 1000:.0f} ms, {size(record['bytes'])}"
    lines.append(f"answered {record['status']} {took}" + (f"; broken: {record['broken']}" if record["broken"] else ""))
    if record.get("error"):
        lines.append(f"refused: {record['error']}")
    if record.get("routing") == ["local"]:
        return lines + local_sentences(record)
    if record.get("model"):
        ran = "" if record["ran"] == record["model"] else f", which ran as '{record['ran']}'"
        routing = " ".join(record["routing"])
        lines.append(f"asked for '{record['model']}'{ran}; {routing} by {record['balancer']}")
    if record.get("waited"):
        lines.append(f"waited {record['waited'] * 1000:.0f} ms for its turn")
    lines += [f"  candidate {name}" for name in record.get("candidates", [])]
    lines += [f"  passed over {name}: {reason}" for name, reason in record.get("passed_over", {}).items()]
    lines += [f"  tried {name}: {how}, {seconds * 1000:.0f} ms" for name, how, seconds in record.get("tries", [])]
    if record.get("prompt_tokens") or record.get("completion_tokens"):
        lines.append(f"{record['prompt_tokens']} tokens in, {record['completion_tokens']} out")
    return lines


def local_sentences(record: Record) -> list[str]:
    """Of an answer that a model on this machine made."""
    lines = [f"'{record['model']}' on this machine" + ("" if record["slot"] is None else f", slot {record['slot']}")]
    if record["loaded"]:
        lines.append(f"waited {record['loaded'] * 1000:.0f} ms for the model to be loaded")
    lines += [f"  '{name}' had to leave for it" for name in record["evicted"]]
    if record["waited"]:
        lines.append(f"waited {record['waited'] * 1000:.0f} ms for its turn")
    if record["prompt_tokens"]:
        known = f", {record['cached_tokens']} of them remembered" if record["cached_tokens"] else ""
        lines.append(f"{record['prompt_tokens']} tokens in{known}, {record['completion_tokens']} out")
    for what, speed in (("read", "prompt_tokens_per_second"), ("wrote", "tokens_per_second")):
        if record[speed]:
            lines.append(f"{what} {record[speed]:.0f} tokens a second")
    if record["dropped"]:
        lines.append(f"not honoured: {record['dropped']}")
    if record["truncated"]:
        lines.append(f"cut to fit: {record['truncated']}")
    return lines


def top_command(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end")] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Watch endpoints, models and requests; Ctrl-C ends."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            if not api.live:
                raise Unavailable("No server runs on this data folder", hint="Start one with: atrium serve")
            if once:
                console().print(await picture(api))
                return
            with Live(console=Console(), refresh_per_second=4, screen=True) as shown:
                while True:
                    shown.update(await picture(api))
                    await asyncio.sleep(REFRESH)

    run(work())


async def picture(api: Door) -> Group:
    status = await api.get("/internal/status")
    models = (await api.get("/internal/stats/models"))["models"]
    runners = await api.get("/api/admin/runners")
    requests = await api.get("/api/admin/requests", limit=str(SHOWN))
    system = status["system"]
    head = Table.grid(padding=(0, 3))
    head.add_row(
        f"Atrium {system['version']}",
        f"up {system['uptime']}",
        f"{system['total_requests']} requests",
        f"{system['active_connections']} in flight",
        f"success {system['success_rate']}",
        f"endpoints {system['endpoints_up']}",
    )
    return Group(
        head, endpoint_table(status["endpoints"]), model_table(models), runner_table(runners), request_table(requests)
    )


def endpoint_table(rows: list[Record]) -> Table:
    table = Table("endpoint", "type", "status", "in flight", "requests", "success", "latency", title="Endpoints")
    for row in rows:
        figures = (row["connections"], row["requests"], row["success_rate"], row["avg_latency"])
        table.add_row(row["name"], row["type"], row["status"], *(str(figure) for figure in figures))
    return table


def model_table(rows: list[Record]) -> Table:
    table = Table("model", "requests", "success", "mean", "p95", "p99", "last", title="Relayed models")
    for row in rows[:SHOWN]:
        names = ("total_requests", "success_rate", "average_latency", "p95_latency", "p99_latency", "last_requested")
        table.add_row(row["name"], *(str(row[name]) for name in names))
    return table


def runner_table(rows: list[Record]) -> Table:
    table = Table("model", "state", "busy", "waiting", "memory", "kept for it", "leaves in", title="Local models")
    for row in rows:
        busy = f"{row['busy']}/{row['slots']}"
        leaves = "never" if row["expires_in"] is None else f"{row['expires_in']:.0f} s"
        sizes = (size(row["memory_used"]), size(row["memory_estimate"]))
        table.add_row(row["model"], row["state"], busy, str(row["waiting"]), *sizes, leaves if row["pid"] else "")
    return table


def request_table(rows: list[Record]) -> Table:
    whole = Column("id", no_wrap=True, min_width=ID_WIDTH)  # `atrium explain` takes it as it stands
    table = Table(whole, "caller", "path", "model", "endpoint", "status", "ms", title="Newest requests")
    for row in rows:
        tries = row.get("tries") or [["", "", 0]]
        cells = (row["id"], row["caller"], row["path"], row.get("model", ""), tries[-1][0], row["status"])
        table.add_row(*(str(cell or "") for cell in cells), f"{row['seconds'] * 1000:.0f}")
    return table
