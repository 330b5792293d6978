"""``python -m bench``: run the benchmark, or write the report of a run again."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench import database, machine, report, suite
from bench.narrate import tell
from bench.rounds import FORMS, Run, Step, carry_out
from bench.sets import SETS
from bench.trial import Place
from bench.ways import geotiff_numpy

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench"


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for form in FORMS.values():
        about = f"sets {', '.join(form.sets)}; about {form.seconds / 60:.0f} minutes of trials"
        run = commands.add_parser(form.name, help=about, description=about)
        run.add_argument("--binary", type=Path, default=ROOT / ".bin" / "rasterloom", help="default: %(default)s")
        run.add_argument("--database-url", help="use this PostgreSQL as it is set up, instead of one of our own")
        run.add_argument("--out", type=Path, help="folder of the report; default: docs if full, else .cache/bench")
        run.add_argument("--only", default="", help="names of ways and limits, by commas; default all")
        run.add_argument("--rounds", type=int, help="exactly so many rounds, whatever the time")
        run.add_argument("--seed", type=int, default=int(time.time()), help="of the order of the trials")
    again = commands.add_parser("report", help="write the report of a run again")
    again.add_argument("results", type=Path, help="benchmarks.json of the run")
    arguments = parser.parse_args()
    if arguments.command == "report":
        done = Run.from_json(json.loads(arguments.results.read_text()))
        report.write(done, arguments.results.parent)
        return
    try:
        _run(arguments)
    except KeyboardInterrupt:
        tell("stopped; nothing was written")
        sys.exit(130)


def _run(arguments: argparse.Namespace) -> None:
    form = FORMS[arguments.command]
    only = {name for name in arguments.only.split(",") if name}
    out = arguments.out or (ROOT / "docs" if form.name == "full" and not only else CACHE / form.name)
    work, geotiffs = CACHE / "work", CACHE / "geotiff"
    for folder in (out, work, geotiffs):
        folder.mkdir(parents=True, exist_ok=True)

    def wanted(step: Step) -> bool:
        return not only or step.name in only

    steps = [step for step in form.steps if wanted(step)]
    sets = [SETS[name] for name in form.sets]
    sets = [s for s in sets if any(re.split("[/#]", step.layers)[0] == s.name for step in steps)]
    with ExitStack() as stack:
        url = arguments.database_url
        if not url:
            tell("starting a PostgreSQL of our own")
            url = stack.enter_context(database.own_server(arguments.binary, CACHE / "postgres"))
        database.load(url, sets)
        if any(step.name.startswith("geotiff") for step in steps):
            tell("writing the layers as GeoTIFFs, where they are not there")
            for layer in SETS[form.main].layers:
                geotiff_numpy.make(layer, geotiffs)
        tell("reading everything once")
        database.warm(url, sets)
        done = Run(
            form=form.name,
            main=form.main,
            command=_command(arguments),
            began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            facts=machine.facts(ROOT),
            versions=machine.versions(),
            database=database.facts(url),
            seed=arguments.seed,
        )
        place = Place(url, work, geotiffs)
        carry_out(form, done, place, lambda: suite.running(arguments.binary, url, work), wanted, arguments.rounds)
    (out / "benchmarks.json").write_text(json.dumps(done.to_json(), indent=1) + "\n")
    tell(f"the report is {report.write(done, out)}")
    failures = done.failures()
    for failed in failures:
        tell(f"failed: {failed.step.layers} {failed.step.title}: {failed.result.error or failed.result.answer}")
    sys.exit(1 if failures else 0)


def _command(arguments: argparse.Namespace) -> str:
    """What was asked, without paths and addresses."""
    parts = ["bash", "bench/run.sh", arguments.command]
    parts += [f"--only={arguments.only}"] if arguments.only else []
    parts += [f"--rounds={arguments.rounds}"] if arguments.rounds else []
    return shlex.join(parts)


if __name__ == "__main__":
    main()
