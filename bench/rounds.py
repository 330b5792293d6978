"""What is run, in which order, how often."""

from __future__ import annotations

import dataclasses
import random
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench import limits, machine, migration, trial, ways
from bench.narrate import tell
from bench.sets import find
from bench.suite import Suite, Watched
from bench.trial import Place, Result, Task


@dataclass(frozen=True)
class Step:
    """One thing to measure.

    ``rounds`` is how many rounds have it: what is slow, or needs no precision,
    is in the first only.
    """

    name: str
    task: Task
    layers: str
    rounds: int = 99

    @property
    def ours(self) -> bool:
        """Whether Rasterloom is measured, and not a peer or a limit."""
        return self.name in ("loom", "loom_tiled")

    @property
    def title(self) -> str:
        """For people."""
        if self.task == "limit":
            return limits.BY_NAME[self.name].title
        if self.task == "migrate":
            return migration.BY_NAME[self.name].title
        return f"{ways.BY_NAME[self.name].title} → {self.task}"


@dataclass(frozen=True)
class Form:
    """A whole run: sets, steps, and when to stop adding rounds."""

    name: str
    main: str  # the set of the comparison
    sets: tuple[str, ...]
    steps: tuple[Step, ...]
    rounds: int
    seconds: float  # no round begins after so much time
    timeout: float  # of one trial


def _comparison(main: str, seldom: int) -> list[Step]:
    steps = []
    # Those that a target speaks of are in every round, the others in the first few.
    always = {"duckdb_postgres", "adbc_numpy", "psql_numpy", "loom"}
    for peer in (*ways.PEERS, ways.LOOM):
        rounds = 1 if peer.old else 99 if peer.name in always else seldom
        steps.append(Step(peer.name, "parquet", main, rounds))
        if not peer.old:
            steps.append(Step(peer.name, "arrow", main, rounds))
    always = {"packed_two", "parquet_zstd", "flight", "flight_table"}
    steps += [
        Step(limit.name, "limit", main, 99 if limit.name in always else seldom)
        for limit in limits.LIMITS
        if not limit.name.startswith("tiles")
    ]
    return steps


def _tiles(*sets: str) -> list[Step]:
    """The same layers as tiles."""
    return [
        step
        for name in sets
        for step in (
            Step("loom", "arrow", name),
            Step("loom", "first", name),
            Step("loom", "stream", name, 3),
            Step("tiles_one", "limit", name, 3),
            Step("tiles_two", "limit", name, 3),
        )
    ]


def _migrations(layers: str, rounds: int) -> list[Step]:
    """One layer moved to other storage under a writer, each way in every round."""
    return [Step(way.name, "migrate", layers, rounds) for way in migration.WAYS]


def _loom(task: Task, *sets: str, rounds: int) -> list[Step]:
    """Rasterloom alone, as work grows."""
    return [Step("loom", task, name, rounds) for name in sets]


SHORT = Form(
    name="short",
    main="1m",
    sets=("1m", "40", "1m-raw", "1m-zstd"),
    steps=(
        *_comparison("1m", seldom=1),
        *_tiles("1m-raw", "1m-zstd"),
        *_loom("first", "1m#0", "1m", "40", rounds=99),
        *_loom("stream", "1m", "1m#0", "1m#1", "1m#2", "1m#3", "40", rounds=3),
        *_loom("verify", "40", rounds=1),
        *_migrations("1m#0", rounds=2),
        *_loom("ingest", "1m#0", rounds=2),
    ),
    rounds=5,
    seconds=120,
    timeout=60,
)
FULL = Form(
    name="full",
    main="9m",
    sets=("1m", "9m", "40", "100m", "9m-raw", "9m-zstd"),
    steps=(
        *_comparison("9m", seldom=3),
        *_tiles("9m-raw", "9m-zstd"),
        *_loom("first", "1m#0", "1m", "9m", "40", "100m", rounds=99),
        *_loom("stream", "1m#0", "1m", "9m", "9m#0", "9m#1", "9m#2", "9m#3", "40", rounds=3),
        *_loom("stream", "100m", rounds=2),
        *_loom("verify", "40", "100m", rounds=1),
        Step("duckdb_postgres", "arrow", "40", 3),
        Step("adbc_numpy", "arrow", "40", 3),
        Step("loom", "arrow", "40", 3),
        *_migrations("9m#0", rounds=3),
        *_loom("ingest", "9m#0", rounds=3),
        *_loom("ingest", "100m", rounds=1),
    ),
    rounds=7,
    seconds=16 * 60,
    timeout=15 * 60,
)
FORMS = {form.name: form for form in (SHORT, FULL)}


@dataclass
class Trial:
    """A step that was run."""

    step: Step
    round: int
    result: Result
    server: Watched | None = None


@dataclass
class Run:
    """Everything that a run found."""

    form: str
    main: str
    command: str
    began: str
    facts: dict[str, str]
    versions: dict[str, str]
    database: dict[str, str]
    seed: int
    loads: list[float] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # title: reason

    def of(self, name: str, task: Task, layers: str) -> list[Trial]:
        """Trials of a step whose time counts.

        Those that ended, with a right answer where there is one. The old
        pipeline counts although it is wrong: it is what people have.
        """
        forgiven = task not in ("limit", "migrate") and ways.BY_NAME[name].old
        return [
            t
            for t in self.tried(name, task, layers)
            if not t.result.error and (t.result.right is not False or forgiven)
        ]

    def tried(self, name: str, task: Task, layers: str) -> list[Trial]:
        """All trials of a step."""
        return [t for t in self.trials if (t.step.name, t.step.task, t.step.layers) == (name, task, layers)]

    def failures(self) -> list[Trial]:
        """Trials of Rasterloom that failed, or whose answer was wrong."""
        return [t for t in self.trials if t.step.ours and (t.result.error or t.result.right is False)]

    def seconds(self, name: str, task: Task, layers: str) -> float | None:
        """Median time."""
        times = [t.result.seconds for t in self.of(name, task, layers)]
        return median(times) if times else None

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Run:
        """From the results file."""
        trials = [
            Trial(Step(**t["step"]), t["round"], Result(**t["result"]), Watched(**t["server"]) if t["server"] else None)
            for t in said.pop("trials")
        ]
        return cls(trials=trials, **said)


Start = Callable[[], AbstractContextManager[Suite]]


def carry_out(
    form: Form, run: Run, place: Place, start: Start, wanted: Callable[[Step], bool], rounds: int | None
) -> None:
    """Run the rounds: every step of a round in a random order, so that what drifts falls on all alike.

    One suite serves all trials but the streams: each of these has a suite of its
    own, whose memory tells of that stream only.
    """
    shuffle = random.Random(run.seed)
    steps = [step for step in form.steps if wanted(step) and _can(step, run)]
    with ExitStack() as stack:
        shared: Suite | None = None
        if any(step.ours and step.task != "stream" for step in steps):
            tell("starting Rasterloom")
            shared = stack.enter_context(start())

        def once(step: Step, number: int) -> Trial:
            if not step.ours:
                return Trial(step, number, trial.run(step.name, step.task, step.layers, place, form.timeout))
            if step.task == "stream" or shared is None:
                with start() as own:
                    return _watched(step, number, place, own, form.timeout)
            return _watched(step, number, place, shared, form.timeout)

        _rounds(form, run, steps, shuffle, once, rounds)


def _rounds(
    form: Form,
    run: Run,
    steps: list[Step],
    shuffle: random.Random,
    once: Callable[[Step, int], Trial],
    rounds: int | None,
) -> None:
    began = time.monotonic()
    for number in range(1, (rounds or form.rounds) + 1):
        spent = time.monotonic() - began
        # A round that would end long after the time is not begun.
        if number > 1 and not rounds and spent * number / (number - 1) > form.seconds * 1.25:
            tell(f"the time is up after {number - 1} rounds")
            break
        todo = [step for step in steps if number <= step.rounds]
        if not todo:
            break
        shuffle.shuffle(todo)
        run.loads.append(machine.load())
        tell(f"round {number}, {len(todo)} trials")
        for step in todo:
            done = once(step, number)
            run.trials.append(done)
            tell(f"  {step.layers:>5}  {step.title:<62} {_outcome(done)}")


def _can(step: Step, run: Run) -> bool:
    if step.task == "migrate":
        return True
    known = limits.BY_NAME[step.name] if step.task == "limit" else ways.BY_NAME[step.name]
    if known.command and shutil.which(known.command) is None:
        run.left_out[known.title] = f"{known.command} is not installed"
        return False
    return True


def _watched(step: Step, number: int, place: Place, suite: Suite, timeout: float) -> Trial:
    with suite.watch() as watched:
        result = trial.run(step.name, step.task, step.layers, dataclasses.replace(place, loom_url=suite.url), timeout)
    # One curve of each stream is enough, without the client's start.
    began = watched.samples[-1][0] - result.seconds if watched.samples else 0.0
    curve = step.task == "stream" and number == 1
    watched.samples = [(at - began, size) for at, size in watched.samples if at >= began] if curve else []
    return Trial(step, number, result, watched)


def _outcome(done: Trial) -> str:
    result = done.result
    if result.error:
        return f"failed: {result.error[:90]}"
    if done.step.task == "verify":
        return f"every cell: {result.answer}"
    text = f"{result.seconds:7.2f} s"
    if done.step.task == "migrate":
        text += f"  {result.rows / result.seconds / 1e6:5.2f} M rows/s"
        if result.longest_wait_seconds is not None:
            text += f", a writer waited {result.longest_wait_seconds * 1000:.0f} ms"
    elif done.step.task != "limit":
        text += f"  {result.peak_bytes / 2**20:5.0f} MiB"
    else:
        text += f"  {find(done.step.layers).values / result.seconds / 1e6:5.1f} M cells/s"
    if done.server is not None:
        text += f"  server {done.server.peak_bytes / 2**20:.0f} MiB, {done.server.cpu_seconds:.2f} s CPU"
    return text + (f"  {result.answer}" if result.answer not in ("", "yes", "yes, by the count") else "")
