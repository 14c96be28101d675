"""Measure runs on several machines: the whole program, with a model that sleeps.

    .venv/bin/python tests/benchmarks/cluster.py CASE... [--rounds 3] [--backend vlmevalkit]

The machines are two network namespaces (``tests/cluster/machines.py``), with a Slurm of two nodes
where the case needs it; both take root. Only ``simulated`` needs neither. Cases:

- array, allocation: makespan over its lower bound, 2 machines with 2 workers each. ``--slower 6``
  makes the second machine six times slower.
- simulated: 8 machines with 4 workers each. The program and its 4 workers are real; the other
  machines are a process each, with real connections, that sleep in place of the workers.
- losses: a link that is down for 5 s; a machine that is killed; a link that stays down.
- kills: 20 seeded kills and cuts.
- back: a machine that Slurm loses and that comes back.
- drain: machines with a time limit of two minutes.
- heads: a head that is killed, and a head's machine.

Every case says how many questions were journalled twice. What machines do is read from the notes of
the sleeping model; all processes have one clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import many_questions
import sleepers
from draws import Draw, redraw
from easi_eval.core.atomic_files import write_json
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_client import NodeClient
from easi_eval.engine.generation import Generation
from easi_eval.engine.node_link import NodeLink
from easi_eval.engine.work import Assignment, Item, Work
from easi_eval.engine.worker import work_loop
from real_drivers import Measured, told_in
from rehearsal_data import repositories

# the benchmarks are started as programs
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from machines import Machine, two_machines
from program import PROGRAM, Launch, RunFolder, User, a_closed_port, twice
from two_node_slurm import Slurm, slurm

KEYS = ("viewspatial", "3dsrbench", "embspatial")
HUB = """
import sys, time
from pathlib import Path
from easi_eval.data.local_hub.server import LocalHub
with LocalHub(Path(sys.argv[1]), int(sys.argv[2])):
    time.sleep(1e6)
"""
PATIENCE = 200.0  # seconds
SECRET = "measured"


@dataclass(frozen=True)
class Asked:
    """A question that a worker began."""

    name: str
    host: str
    pid: str
    began: float


class World:
    """A served hub, sleeping models and their notes, for one run."""

    def __init__(self, folder: Path, backend: str, drawn: Draw, workers: int) -> None:
        self.folder, self.backend, self.drawn = folder, backend, drawn
        self.hub, self.port = folder / "served", a_closed_port()
        self.notes = folder / "notes"
        self.output = folder / "out"
        self.notes.mkdir()
        repositories.build(self.hub)
        many_questions.enlarge(
            self.hub / "datasets", {key: len(each) for key, each in drawn.items.items()}, 1.0
        )
        (folder / "seconds.json").write_text(many_questions.as_json(drawn.seconds))
        self.variables = {
            **sleepers.install(folder / "model"),
            "HF_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "EASI_JOIN_SECRET": SECRET,
            "EASI_SLEEPY_SECONDS": str(folder / "seconds.json"),
            "EASI_SLEEPY_TOLD": str(self.notes),
            "EASI_SLEEPY_CAME": str(self.notes),
            "EASI_SLEEPY_WORKERS": str(workers),
        }
        self._serving: dict[str, subprocess.Popen[bytes]] = {}

    def serve(self, where: str, words: Sequence[str] = ()) -> None:
        """Serve the hub on the loopback of a machine, if it is not served there."""
        known = self._serving.get(where)
        if known is None or known.poll() is not None:
            self._serving[where] = subprocess.Popen(
                [*words, sys.executable, "-c", HUB, str(self.hub), str(self.port)]
            )

    def close(self) -> None:
        for serving in self._serving.values():
            serving.kill()
            serving.wait()

    def options(self, nproc: int) -> list[str]:
        """Those of the head."""
        data = ["--dataset-dir", str(self.folder / "datasets")]
        return [
            *("--backend", self.backend, *sleepers.MODELS[self.backend], "--device", "cpu"),
            *("--nproc", str(nproc), "--benchmarks", ",".join(KEYS), "--no-rich"),
            *("--output-dir", str(self.output), *(data if self.backend == "vlmevalkit" else [])),
        ]

    @property
    def run(self) -> RunFolder:
        (folder,) = self.output.glob("runs/*/*")
        return RunFolder(folder)

    def asked(self) -> list[Asked]:
        """All questions that were begun, in the order of the clock."""
        found = []
        for file in self.notes.glob("asked.*"):
            _, host, pid = file.name.split(".")
            for line in file.read_text().splitlines():
                name, began = line.rsplit(" ", 1)
                found.append(Asked(name, host, pid, float(began)))
        return sorted(found, key=lambda one: one.began)

    def told(self) -> dict[tuple[str, str], float]:
        """When a process answered a question, by name and process."""
        return {
            (line.rsplit(" ", 3)[0], file.name.split(".")[1]): float(line.split()[-2])
            for file in self.notes.glob("told.*")
            for line in file.read_text().splitlines()
        }

    def answered_by(self, host: str, since: float = 0.0) -> int:
        """Questions that were begun on a machine after a moment, and answered."""
        told = self.told()
        return sum(
            (one.name, one.pid) in told
            for one in self.asked()
            if one.host == host and one.began > since
        )

    def in_hand(self, host: str, then: float) -> set[str]:
        """Questions that the workers of a machine had begun by then and have not answered."""
        last = {one.name: one for one in self.asked() if one.began <= then}
        told = self.told()  # later: what is answered meanwhile is not in hand
        return {one.name for one in last.values() if one.host == host} - {name for name, _ in told}

    def repeated(self) -> int:
        """How many questions were begun more than once."""
        return sum(count > 1 for count in Counter(one.name for one in self.asked()).values())

    def lost(self) -> int:
        """Answers that were given and are not in the journal, five seconds later."""
        given = {name for name, _ in self.told()}
        time.sleep(5)
        # lmms-eval's questions are called TASK:NUMBER.
        return len(
            given - {f"{one['benchmark']} {one['item'].split(':')[-1]}" for one in self.run.answers}
        )


def wait(true: Callable[[], object], what: str, launch: Launch | None = None) -> float:
    """Until it is true; returns the moment."""
    until = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > until or (launch and launch.process.poll() is not None):
            sys.exit(f"waited in vain for {what}\n{launch.said if launch else ''}")
        time.sleep(0.05)
    return time.monotonic()


def in_words(values: Sequence[float]) -> str:
    """The median, and least and most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


class Cluster:
    """The two machines of a world, each with a user of its own; ``here`` has the head."""

    def __init__(self, world: World, machines: tuple[Machine, Machine]) -> None:
        self.world = world
        self.here, self.there = machines
        self.users = {
            machine: User(world.folder / machine.name, secrets=False, machine=machine.words)
            for machine in machines
        }
        self.serve()

    def serve(self) -> None:
        """Serve the hub on both machines."""
        for machine in (self.here, self.there):
            self.world.serve(machine.name, machine.words)

    def head(self, **variables: str) -> Any:
        """The head, with its own worker if Slurm places none."""
        return self.users[self.here].start(
            *self.world.options(1), "--nodes", "2", **{**self.world.variables, **variables}
        )

    def join(self, head: Launch) -> Any:
        """The other machine joins a run."""
        wait(lambda: "--join " in head.out, "the line for --join", head)
        self.serve()
        address = head.out.split("--join ")[-1].split()[0]
        own = ["--dataset-dir", str(self.world.folder / "datasets-b")]
        return self.users[self.there].start(
            *("--join", address, "--nproc", "1"),
            *(own if self.world.backend == "vlmevalkit" else []),
            **self.world.variables,
        )

    def wait_for_work(self, head: Launch, more: int = 2) -> None:
        """Until the other machine has answered questions that it begins from now on."""
        now = time.monotonic()
        wait(lambda: self.world.answered_by("nodeb", now) >= more, "answers of nodeb", head)

    def seconds_until_asked_again(self, head: Launch, since: float) -> float:
        """Until the other machine has every question in hand that nodeb had."""
        held = self.world.in_hand("nodeb", since)

        def again() -> set[str]:
            return {one.name for one in self.world.asked() if one.began > since} & held

        wait(lambda: again() == held, f"{held} to be asked again, {again()} was", head)
        return max(one.began for one in self.world.asked() if one.name in held) - since


# ---- the cases -----------------------------------------------------------------------------------


def losses(cluster: Cluster, rounds: int) -> None:
    """Cut the link for five seconds; kill the machine; cut the link for good."""
    world, seconds = cluster.world, {"killed": [], "link down": []}
    with cluster.head() as head:
        with cluster.join(head):
            cluster.wait_for_work(head)
            for _ in range(rounds):
                cluster.there.set_link("down")
                time.sleep(5)
                cluster.there.set_link("up")
                cluster.wait_for_work(head, 3)
            print(
                f"link down for 5 s, {rounds} times: lost {world.lost()}, "
                f"repeated {world.repeated()}",
                flush=True,
            )
            seconds["killed"].append(_killed(cluster, head))
        for _ in range(rounds - 1):
            with cluster.join(head):
                cluster.wait_for_work(head)
                seconds["killed"].append(_killed(cluster, head))
        for _ in range(rounds):
            with cluster.join(head) as node:
                cluster.wait_for_work(head)
                cluster.there.set_link("down")
                cut = time.monotonic()
                seconds["link down"].append(cluster.seconds_until_asked_again(head, cut))
                ended = wait(lambda: node.process.poll() is not None, "the end of nodeb") - cut
                print(f"the machine without a link ended after {ended:.1f} s")
                cluster.there.set_link("up")
        for what, values in seconds.items():
            print(f"{what}: asked again after {in_words(values)} s, {rounds} times")
        print(f"journalled twice: {len(twice(world.run))}")


def _killed(cluster: Cluster, head: Launch) -> float:
    began = time.monotonic()
    cluster.there.kill()
    return cluster.seconds_until_asked_again(head, began)


def heads(cluster: Cluster, rounds: int) -> None:
    """Kill the head, and its whole machine."""
    seconds: dict[str, list[float]] = {"the head": [], "its machine": []}
    for what in [name for name in seconds for _ in range(rounds)]:
        cluster.serve()
        with cluster.head() as head, cluster.join(head) as node:
            cluster.wait_for_work(head)
            began = time.monotonic()
            if what == "the head":
                head.process.kill()
            else:
                cluster.here.set_link("down")  # a machine without power sends nothing
                cluster.here.kill()
            ended = wait(lambda: not head.alive() and not node.alive(), "the end of all")
            seconds[what].append(ended - began)
            cluster.here.set_link("up")
            print(f"{what} killed: {ended - began:.1f} s", flush=True)
    for what, values in seconds.items():
        print(f"{what} killed: nothing left after {in_words(values)} s, {rounds} times")
    print(f"journalled twice: {len(twice(cluster.world.run))}")


KINDS = {
    **{"worker": 5, "worker of the head": 2, "keeper": 3, "program of the machine": 3},
    **{"machine": 3, "link for 5 s": 2, "link for 15 s": 2},
}


def kills(cluster: Cluster, seed: int) -> None:
    """Kill and cut at random; the other machine joins again where it ended."""
    world, rng = cluster.world, random.Random(seed)
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    rng.shuffle(kinds)
    with cluster.head() as head, ExitStack() as nodes:
        node = nodes.enter_context(cluster.join(head))
        cluster.wait_for_work(head, 1)
        for number, kind in enumerate(kinds, 1):
            time.sleep(rng.uniform(0, 2))
            passed = _disturbed(cluster, kind, head, node)
            if node.process.poll() is not None:
                node = nodes.enter_context(cluster.join(head))
                cluster.wait_for_work(head, 1)
            print(f"{number}: {kind}, {passed:.0f} s, {len(world.run.answers)} answers", flush=True)
        head.process.send_signal(signal.SIGTERM)
        head.wait(60)
    with cluster.head(EASI_SLEEPY_SECONDS=_short(world)) as head:
        wait(lambda: head.process.poll() is not None, "the end of the run")
        head.wait(1)
        if head.code:
            sys.exit(head.said)
    print(
        f"{len(kinds)} kills ({', '.join(f'{count} {kind}' for kind, count in KINDS.items())}): "
        f"{len(world.run.answers)} of {len(world.drawn.seconds)} answers, "
        f"journalled twice {len(twice(world.run))}, begun more than once {world.repeated()}"
    )


def _short(world: World) -> str:
    """A file by which the questions take no time."""
    path = world.folder / "short.json"
    path.write_text(many_questions.as_json(dict.fromkeys(world.drawn.seconds, 0.02)))
    return str(path)


def _disturbed(cluster: Cluster, kind: str, head: Launch, node: Launch) -> float:
    """Disturb, and wait until the other machine has answered again, or has ended."""
    began, there = time.monotonic(), cluster.there
    if kind == "machine":
        there.kill()
    elif kind.startswith("link"):
        there.set_link("down")
        time.sleep(float(kind.split()[2]))
        there.set_link("up")
    elif kind == "program of the machine":
        node.process.kill()
    else:
        (pid,) = workers(cluster.here if kind == "worker of the head" else there)
        os.kill(parent_of(parent_of(pid)) if kind == "keeper" else pid, signal.SIGKILL)
    moment = time.monotonic()
    goes_on = cluster.world.answered_by
    wait(lambda: node.process.poll() is not None or goes_on("nodeb", moment), kind, head)
    return time.monotonic() - began


def workers(machine: Machine) -> list[int]:
    """Those of a machine: a guard has started them, and they know a dispatcher."""
    found = []
    for pid in machine.pids():
        with suppress(OSError):
            knows = b"EASI_DISPATCHER=" in Path(f"/proc/{pid}/environ").read_bytes()
            if knows and "guard.py" in command_of(parent_of(pid)):
                found.append(pid)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")


# ---- with Slurm ----------------------------------------------------------------------------------


@contextmanager
def array(
    cluster: Cluster, made: Slurm, options: str, nproc: int = 1, **more: str
) -> Iterator[Launch]:
    """The head of a run that submits an array job with one task for each machine."""
    with cluster.users[cluster.here].start(
        *cluster.world.options(nproc),
        *("--nodes", "2", "--slurm", f"{options} --cpus-per-task=8"),
        **{**cluster.world.variables, **made.variables, **more},
    ) as head:
        yield head


def sharing(cluster: Cluster, made: Slurm, form: str, slower: float) -> None:
    """Makespan over its lower bound."""
    world = cluster.world
    more = {"EASI_SLEEPY_SLOWER": json.dumps({"nodeb": slower})}
    if form == "array":
        with array(cluster, made, "--time=30", 2, **more) as head:
            report = _makespan(world, 2 + 2 / slower, head.process.pid, head)
            head.wait(PATIENCE)
        code, said = head.code, head.said
    else:
        log, script = world.folder / "job.log", world.folder / "job.sh"
        words = shlex.join([sys.executable, str(PROGRAM), *world.options(2), "--nodes", "2"])
        script.write_text(f"#!/bin/bash\necho head $BASHPID\n{words}\necho ended with $?\n")
        subprocess.run(
            [
                *(*cluster.here.words, "sbatch", "--nodes=2", "--ntasks-per-node=1"),
                *("--cpus-per-task=8", f"--output={log}", "--time=30", str(script)),
            ],
            env=cluster.users[cluster.here].environment(
                **{**world.variables, **made.variables, **more}
            ),
            check=True,
        )
        wait(lambda: log.exists() and "results" in log.read_text(), "the head")
        shell = log.read_text().split("head ")[1].split()[0]
        (pid,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        report = _makespan(world, 2 + 2 / slower, int(pid))
        wait(lambda: "ended with" in log.read_text(), "the end of the job")
        said = log.read_text()
        code = int(said.split("ended with ")[1])
    lost = world.lost()
    print(f"{report}, lost {lost}, journalled twice {len(twice(world.run))}", flush=True)
    if code or lost:
        sys.exit(f"exit {code}\n{said}")


def _makespan(world: World, speed: float, head: int, launch: Launch | None = None) -> str:
    """Wait for all answers; what they took, and the head's own processor time meanwhile."""
    wait(lambda: list(world.notes.glob("told.*")), "the first answer", launch)
    began, used = time.monotonic(), processor_seconds(head)
    count = len(world.drawn.seconds)
    wait(lambda: len(world.told()) == count, "all answers", launch)
    share = (processor_seconds(head) - used) / (time.monotonic() - began)
    told = told_in(world.notes).values()
    makespan = max(one.ended for one in told) - min(one.began for one in told)
    bound = max(world.drawn.total / speed, max(world.drawn.seconds.values()))
    by = Counter(one.host for one in world.asked())
    workers = len({one.worker for one in told})
    if speed == workers:
        print(Measured(world.drawn, workers, told_in(world.notes), began).line())
    return (
        f"makespan {makespan:.1f} s over {bound:.1f}: {makespan / bound:.3f}; {count} questions "
        f"({', '.join(f'{host} {number}' for host, number in sorted(by.items()))}), "
        f"{count / makespan:.0f} answers/s; the head's process {100 * share:.1f} % of a core"
    )


def processor_seconds(pid: int) -> float:
    """Of a process, without those that it started."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def back(cluster: Cluster, made: Slurm, rounds: int) -> None:
    """Kill a machine, wait until Slurm has noticed, and have it return."""
    world, passed = cluster.world, []
    with array(cluster, made, "--time=60") as head:
        cluster.wait_for_work(head)
        for _ in range(rounds):
            cluster.there.kill()
            wait(lambda: any("PENDING" in job for job in made.jobs()), "the requeue", head)
            cluster.serve()
            began = time.monotonic()
            made.start_node(cluster.there)
            started = wait(lambda: workers(cluster.there), "a worker", head)
            cluster.wait_for_work(head, 1)
            first = min(
                one.began for one in world.asked() if one.host == "nodeb" and one.began > began
            )
            passed.append(started - began)
            print(
                f"worker after {started - began:.1f} s, question {first - started:.1f} s later",
                flush=True,
            )
    print(
        f"first answer: import + {in_words(passed)} s, {rounds} times; "
        f"journalled twice {len(twice(world.run))}"
    )


def drain(cluster: Cluster, made: Slurm, rounds: int, limit: str) -> None:
    """Tasks with a time limit, until both machines have left for it ``rounds`` times."""
    world = cluster.world
    with array(cluster, made, limit) as head:
        until = time.monotonic() + 400 * rounds
        while (left := head.out.count("left: its time limit is near")) < 2 * rounds:
            if time.monotonic() > until or head.process.poll() is not None:
                sys.exit(f"too late\n{head.said}")
            time.sleep(0.5)
        wait(lambda: all("RUNNING" in job for job in made.jobs()), "the tasks to start again", head)
        cluster.wait_for_work(head)
        print(
            f"{left} times a machine left before its limit ({limit}): "
            f"{len(world.told())} questions, repeated {world.repeated()}, lost {world.lost()}, "
            f"journalled twice {len(twice(world.run))}"
        )


# ---- simulated machines --------------------------------------------------------------------------

SIMULATED, EACH = 7, 4


def simulated(world: World) -> None:
    """A head with workers, and processes with the connections of a machine and its workers."""
    world.serve("here")
    user = User(world.folder / "user", secrets=False)
    with ExitStack() as stack:
        head = stack.enter_context(
            user.start(
                *world.options(EACH),
                *("--nodes", str(SIMULATED + 1)),
                **{**world.variables, "EASI_LISTEN": "127.0.0.1"},
            )
        )
        wait(lambda: "--join " in head.out, "the line for --join", head)
        address = head.out.split("--join ")[-1].split()[0]
        wait(lambda: len(list(world.run.root.glob("items/*.json"))) == len(KEYS), "items", head)
        for number in range(SIMULATED):
            node = subprocess.Popen(
                [sys.executable, __file__, "node", "--of", address, str(world.run.root)],
                env={**os.environ, **world.variables, "EASI_SLEEPY_NODE": f"simulated{number}"},
            )
            stack.callback(node.wait)
            stack.callback(node.kill)
        print(_makespan(world, EACH * (SIMULATED + 1), head.process.pid, head))
        head.wait(PATIENCE)
        if head.code or world.lost():
            sys.exit(head.said)
    print(f"journalled twice {len(twice(world.run))}")


def simulated_node(address: str, run: Path) -> None:
    """Join a run as a machine whose workers are threads that sleep."""
    host, port = address.split(":")
    notes = Path(os.environ["EASI_SLEEPY_TOLD"])
    seconds = json.loads(Path(os.environ["EASI_SLEEPY_SECONDS"]).read_text())
    everybody = int(os.environ["EASI_SLEEPY_WORKERS"])
    with NodeLink(host, int(port), SECRET) as link, tempfile.TemporaryDirectory() as name:
        root = Path(name)
        link.send(type="ready", place=f"{EACH} sleepers", nproc=EACH)
        while (message := link.next(1.0)) is None or message["type"] != "launch":
            pass
        order = message["order"]
        told = dict(order["work"])
        work = Work(tuple(Assignment(**each) for each in told.pop("benchmarks")), **told)
        write_json(
            RunPaths(root).dispatcher, {"host": host, "port": order["port"], "secret": SECRET}
        )
        items = {
            one.key: [
                Item(one.key, item)
                for item in json.loads((run / "items" / f"{one.key}.json").read_text())["ids"]
            ]
            for one in work.benchmarks
        }
        link.send(type="started", workers=EACH, number=order["number"])

        def worker(number: int) -> None:
            waited = False
            me = f"{os.getpid()}x{number}"

            def answer(asked: Sequence[Item]) -> list[Generation]:
                nonlocal waited
                if not waited:
                    waited = True
                    (notes / f"came.{me}").touch()
                    while len(list(notes.glob("came.*"))) < everybody:
                        time.sleep(0.05)
                (item,) = asked
                called = f"{item.benchmark} {item.id}"
                began = time.monotonic()
                time.sleep(seconds[called])
                for kind, text in (
                    (f"asked.{os.environ['EASI_SLEEPY_NODE']}", f"{called} {began}"),
                    ("told", f"{called} {began} {time.monotonic()} {time.process_time()}"),
                ):
                    with (notes / f"{kind}.{me}").open("a") as file:
                        file.write(f"{text}\n")
                return [Generation("The answer is A.")]

            client = NodeClient(root, work, f"{link.name}w{number}", 0)
            work_loop(root, work, items, answer, dispatcher=client)

        threads = [threading.Thread(target=worker, args=(number,)) for number in range(EACH)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        link.send(type="ended", number=order["number"])
        while not (link.over or link.gone):
            time.sleep(0.2)


# ---- the command ---------------------------------------------------------------------------------


def measure(case: str, folder: Path, args: argparse.Namespace) -> None:
    """Measure one case, below an empty folder."""
    count, mean, sigma, workers = {
        "array": (400, 0.5, 1.0, 4),
        "allocation": (400, 0.5, 1.0, 4),
        "simulated": (4000, 0.5, 1.0, EACH * (SIMULATED + 1)),
    }.get(case, (1500, 1.0, 0.3, 1))
    asked = many_questions.counts(count, KEYS)
    drawn = redraw(args.seed, many_questions.features(asked), mean, sigma, 0.5)
    world = World(folder, args.backend, drawn, workers)
    try:
        if case == "simulated":
            simulated(world)
        elif case in ("losses", "heads", "kills"):
            with two_machines(folder) as machines:
                cluster = Cluster(world, machines)
                if case == "kills":
                    kills(cluster, args.seed)
                else:
                    (losses if case == "losses" else heads)(cluster, args.rounds)
        else:
            with slurm(folder) as made:
                cluster = Cluster(world, made.machines)
                if case == "back":
                    back(cluster, made, args.rounds)
                elif case == "drain":
                    drain(cluster, made, args.rounds, args.limit)
                else:
                    sharing(cluster, made, case, args.slower)
    finally:
        world.close()


CASES = ("array", "allocation", "simulated", "losses", "kills", "back", "drain", "heads")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="+", choices=(*CASES, "node"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slower", type=float, default=1.0)
    parser.add_argument("--limit", default="--time=2 --signal=B:USR2@60", help="of a drain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="vlmevalkit", choices=list(sleepers.MODELS))
    parser.add_argument("--of", nargs=2, help="used by the case simulated itself")
    args = parser.parse_args()
    if args.of:
        return simulated_node(args.of[0], Path(args.of[1]))
    for case in args.case:
        print(f"{case}, {args.backend}: load {os.getloadavg()[0]:.1f}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            measure(case, Path(name), args)
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
