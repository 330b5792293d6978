"""The programs of docs/clients.md and docs/guides/clusters.md: all hold the same table.

They run as the pages say, but for the address.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest

import rasterloom as rl

from .flight_server import Script, scripted, trailer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "examples" / "clients"
PAGE = (ROOT / "docs" / "clients.md").read_text()
CLUSTERS = (ROOT / "docs" / "guides" / "clusters.md").read_text()
PROGRAMS = {"dask_frame": "error", "ray_dataset": "default", "spark_frame": "default"}
"""Of the clusters, and what Python does with warnings: Ray and Spark, as they are started, give some of their own."""
SPEC = {"layers": [{"name": "coads_sst_jan"}, {"name": "oisst_19811231"}], "rowsKept": "ROWS_KEPT_ANY"}
SCHEMA = pa.schema([pa.field("x", pa.float64(), nullable=False), pa.field("birds", pa.int16())])
ROWS = pa.record_batch([pa.array([0.5, 1.5]), pa.array([7, None], pa.int16())], schema=SCHEMA)
PART = (ROWS, b'{"sequence":0}')
ALIVE = (ROWS.slice(0, 0), b'{"complete":false}')


def start(command: str, *more: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    """Run a command of the page from the top of the checkout."""
    words = [*shlex.split(command), *more]
    words[0] = {"python": sys.executable}.get(words[0], words[0])
    path = f"{ROOT / '.bin'}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": warnings}
    env |= {"PYSPARK_PYTHON": sys.executable, "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def run(command: str, *more: str, warnings: str = "error") -> str:
    """Give what a command of the page prints."""
    done = start(command, *more, warnings=warnings)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return re.sub(r"\x1b\[\d*m", "", done.stdout)  # Maven resets colours that it never set


def shown(command: str, page: str = PAGE) -> str:
    """What a page says that a command prints."""
    return page.split(f"```sh\n{command}\n```\n\n```text\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def flight(loom: rl.Loom) -> str:
    """Give the address of Flight, as a plan says it."""
    return loom.merge(["coads_sst_jan", "oisst_19811231"]).plan.flight_uri


@pytest.fixture(scope="module")
def sent(flight: str) -> dict:
    """What the server says at the end of the stream: the reference of every client."""
    with fl.connect(flight) as client:
        info = client.get_flight_info(fl.FlightDescriptor.for_command(json.dumps(SPEC).encode()))
        (endpoint,) = info.endpoints
        said = [json.loads(chunk.app_metadata.to_pybytes()) for chunk in client.do_get(endpoint.ticket)]
    assert said[-1]["complete"]
    return said[-1]


def holds_what_was_sent(printed: str, sent: dict) -> bool:
    return printed.splitlines()[:2] == [f"rows {sent['rows']}", f"hash {sent['hash']}"]


@pytest.mark.parametrize("program", ["arrow_table", "polars_frame", "duckdb_query"])
def test_python_without_our_package(flight: str, sent: dict, program: str) -> None:
    command = f"python examples/clients/{program}.py"
    printed = run(command, flight)
    assert holds_what_was_sent(printed, sent)
    assert printed == shown(command)
    assert "rasterloom" not in re.findall(r"^(?:import|from) (\w+)", (CLIENTS / f"{program}.py").read_text(), re.M)


def test_several_endpoints_are_one_table(flight: str, sent: dict) -> None:
    spec = SPEC | {"endpoints": 3, "batchRows": 1000}
    with fl.connect(flight) as client:
        descriptor = fl.FlightDescriptor.for_command(json.dumps(spec).encode())
        assert len(client.get_flight_info(descriptor).endpoints) == 3
    with example("flight_reader") as reading, example("content_hash") as hashing:
        reader = reading.open_merge(flight, spec)
        assert str(hashing.ContentHash(reader.schema).update(reader.read_all())) == sent["hash"]


@pytest.mark.java
def test_java(flight: str, sent: dict) -> None:
    command = next(line for line in PAGE.splitlines() if line.startswith("mvn "))
    printed = run(command.replace("grpc://127.0.0.1:7401", flight))
    assert holds_what_was_sent(printed, sent)
    assert printed == shown(command)
    for messages in ([PART], [PART, ALIVE]):
        with scripted(Script(SCHEMA, [messages])) as uri:
            cut = start(command.replace("grpc://127.0.0.1:7401", uri))
        assert cut.returncode != 0
        assert "the stream ended after 2 rows without a trailer" in cut.stderr + cut.stdout


def told(layers: dict, report: dict, plan: dict, loom: rl.Loom) -> None:
    """Compare three answers in JSON with what our client says."""
    ours = [layer for layer in loom.layers() if "sst" in layer.name]
    assert ours
    assert [layer["name"] for layer in layers["layers"]] == [layer.name for layer in ours]
    verdicts = {r["layer"]: (r["verdict"], r["shift"].get("x", 0)) for r in report["relations"]}
    assert verdicts == {"coads_sst_jan": ("VERDICT_IDENTICAL", 0), "oisst_19811231": ("VERDICT_SHIFT", 1)}
    same = loom.merge(["coads_sst_jan", "oisst_19811231"], rows="any").plan
    assert (int(plan["maxRows"]), plan["flightUri"]) == (same.max_rows, same.flight_uri)


def test_curl(loom: rl.Loom, suite) -> None:
    answers = [json.loads(line) for line in run("bash examples/clients/connect.sh", suite.url).splitlines()]
    told(*answers, loom)


@pytest.mark.parametrize("program", ["reflection", "grpcurl"])
def test_reflection(loom: rl.Loom, suite, program: str) -> None:
    listed, brace, answers = run(f"bash examples/clients/{program}.sh", suite.url).partition("{")
    services = {line.split("/")[0].rpartition(".")[2] for line in listed.splitlines()}
    contracts = "".join(path.read_text() for path in (ROOT / "proto" / "rasterloom").rglob("*.proto"))
    assert services - {"Health", "ServerReflection"} == set(re.findall(r"^service (\w+)", contracts, re.M))
    told(*json.loads("[" + re.sub(r"}\n{", "},{", brace + answers) + "]"), loom)


def test_grpc_without_reflection(suite) -> None:
    method, asked = "rasterloom.schema.v1.SchemaService/GetLayer", '{"name": "coads_sst_jan"}'
    for program, rest in (
        ("buf curl", ["--protocol=grpc", "--http2-prior-knowledge", "--data", asked, f"{suite.url}/{method}"]),
        ("grpcurl", ["-plaintext", "-d", asked, suite.url.removeprefix("http://"), method]),
    ):
        command = re.search(rf"`({program} -.*?) …`", PAGE)[1]
        assert json.loads(run(command, *rest))["layer"]["name"] == "coads_sst_jan"


def test_an_export_is_the_same_table(exports: Path, suite, sent: dict) -> None:
    answer = json.loads(run("bash examples/clients/export.sh", suite.url, "without-our-package.parquet"))
    assert int(answer["export"]["manifest"]["rows"]) == sent["rows"]
    table = pq.read_table(exports / "without-our-package.parquet")
    with example("content_hash") as module:
        assert str(module.ContentHash(table.schema).update(table)) == sent["hash"]


def test_code_of_the_page_is_that_of_the_programs() -> None:
    programs = "".join(path.read_text() for path in CLIENTS.glob("*.py"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 3
    assert [block for block in blocks if block not in programs] == []


@contextmanager
def example(name: str) -> Iterator[ModuleType]:
    """Import a module of examples/clients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CLIENTS))
        yield __import__(name)


def test_the_reader_takes_no_short_table_for_a_whole_one() -> None:
    cases: list[tuple[list, str | None]] = [
        ([PART, ALIVE, trailer(SCHEMA, [ROWS], {})], None),
        ([PART], "ended after 2 rows without a trailer"),
        ([PART, ALIVE], "ended after 2 rows without a trailer"),
        ([PART, trailer(SCHEMA, [ROWS, ROWS], {})], "2 rows of .* came, 4 of"),
        ([PART, trailer(SCHEMA, [ROWS], {"hash": "xxh3-128:0"})], "2 rows of .* came, 2 of xxh3-128:0"),
    ]
    with example("flight_reader") as module:
        for messages, error in cases:
            with scripted(Script(SCHEMA, [messages])) as uri:
                if error is None:
                    assert module.open_merge(uri, SPEC).read_all() == pa.Table.from_batches([ROWS])
                    continue
                with pytest.raises(module.IncompleteError, match=error):
                    module.open_merge(uri, SPEC).read_all()


def test_parts_that_other_processes_read_are_the_table(
    flight: str, sent: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Spawned, as workers on other machines are: they have the ticket and the modules, and nothing else of ours.
    monkeypatch.setenv("PYTHONPATH", str(CLIENTS))
    with example("merge_parts") as parts, example("content_hash") as hashing:
        schema, tickets = parts.plan_parts(flight)
        assert len(tickets) == parts.PARTS
        with ProcessPoolExecutor(2, get_context("spawn")) as workers:
            tables = list(workers.map(parts.read_part, [flight] * len(tickets), [schema] * len(tickets), tickets))
    assert all(table.num_rows for table in tables)
    table = pa.concat_tables(tables)
    assert table.num_rows == sent["rows"]
    assert str(hashing.ContentHash(table.schema).update(table)) == sent["hash"]


def test_more_parts_than_rows_are_not_had(flight: str) -> None:
    with example("merge_parts") as parts:
        _, tickets = parts.plan_parts(flight, parts=1000)
        assert 1 < len(tickets) <= 90


@pytest.mark.clusters
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_print_what_the_page_shows(flight: str, program: str) -> None:
    command = f"python examples/clients/{program}.py"
    assert run(command, flight, warnings=PROGRAMS[program]) == shown(command, CLUSTERS)


def test_code_of_the_clusters_page_is_that_of_the_programs() -> None:
    programs = "".join(path.read_text() for path in CLIENTS.glob("*.py"))
    _, *blocks = re.findall(r"```python\n(.*?)```", CLUSTERS, re.DOTALL)
    assert len(blocks) == len(PROGRAMS)
    assert [block for block in blocks if block not in programs] == []


def test_tasks_need_no_package_of_ours() -> None:
    for program in [*PROGRAMS, "merge_parts", "flight_reader", "content_hash"]:
        imported = re.findall(r"^\s*(?:import|from) (\w+)", (CLIENTS / f"{program}.py").read_text(), re.MULTILINE)
        assert imported
        assert "rasterloom" not in imported
