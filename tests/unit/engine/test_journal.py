"""The journal keeps exact strings, survives kills at any byte, and merges in one way only."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.engine.journal import Answer, Journal, Phase, decode, encode
from easi_eval.engine.journal_state import JournalState, pending
from easi_eval.engine.work import Assignment, Item, ItemList, Work, item_seed

NASTY = [
    "",
    "plain",
    "tab\tnewline\nreturn\r\n",
    "nul \x00 bell \x07 del \x7f",
    "\u2028\u2029\x85",
    "\ud800",
    "\udfff\ud800",
    "\ud83d\ude00",
    "😀 ünï 空间",
    "=1+1",
    '{"kind":"answer"}\n{"',
    "\\ud800 \\n \\",
    "\ufeff\ufffe",
    "x" * 1_500_000,
]


def answer(
    item: str,
    text: str | None = "A",
    *,
    failure: str | None = None,
    fence: int = 1,
    launch: int = 0,
    epoch: int = 0,
    benchmark: str = "blink",
) -> Answer:
    return Answer(
        benchmark, item, epoch, text, 0.5, failure=failure, worker="w0", fence=fence, launch=launch
    )


def write(folder: Path, name: str, *answers: Answer, launch: int = 0) -> Path:
    """A journal with a chosen file name, to fix the order of files."""
    with Journal(folder, "w0", 0, launch) as journal:
        for entry in answers:
            journal.answer(entry)
    return journal.path.rename(folder / name)


def read(
    folder: Path, epochs: dict[str, int], launch: int | None = None
) -> dict[tuple[str, str], Answer]:
    state = JournalState(folder, epochs, launch)
    state.poll()
    return state.answers


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text[:12]))
def test_exact_strings_come_back(tmp_path: Path, text: str) -> None:
    given = Answer(
        "blink", text[:50], 3, text, 1.25, 7, "length", 32, "0123456789abcdef", None, "w3", 9, 2
    )
    with Journal(tmp_path, "w3", 1) as journal:
        journal.answer(given)
    assert read(tmp_path, {"blink": 3}) == {("blink", text[:50]): given}


def test_every_field_is_written(tmp_path: Path) -> None:
    given = Answer(
        "b", "i", 1, None, 0.1, 2, "stop", 3, "f" * 16, "ValueError: no", "w1", 4, 5, "\n\n", 6.5
    )
    assert decode(encode(given)[:-1]) == given
    assert all(getattr(given, field.name) != field.default for field in dataclasses.fields(Answer))


def test_an_answer_has_a_text_or_a_failure() -> None:
    with pytest.raises(ValueError, match="either"):
        answer("1", None)
    with pytest.raises(ValueError, match="either"):
        answer("1", "A", failure="Oops: both")


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """Whatever was whole before the cut is read, nothing else, and nothing raises."""
    path = write(
        tmp_path, "w0.jsonl", answer("1", "ä\x00\ud800"), answer("2", "B"), answer("3", "C")
    )
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        answers_before_cut = max(whole[:size].count(b"\n") - 1, 0)
        assert len(read(tmp_path, {"blink": 0})) == answers_before_cut


def test_damage_elsewhere_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "w0.jsonl", answer("1"), answer("2"), answer("3"))
    lines = path.read_bytes().split(b"\n")
    for line, damage in (
        (1, b'{"kind":"answer","bench'),
        (0, b"\0" * 40),
        (2, b'{"kind":"answer"}'),
        (0, lines[1]),
    ):
        path.write_bytes(b"\n".join([*lines[:line], damage, *lines[line + 1 :]]))
        with pytest.raises(EasiError, match=rf"w0\.jsonl is damaged in line {line + 1}"):
            read(tmp_path, {"blink": 0})


def test_a_damaged_last_line_is_tolerated_until_something_follows(tmp_path: Path) -> None:
    path = write(tmp_path, "w0.jsonl", answer("1"))
    state = JournalState(tmp_path, {"blink": 0})
    with path.open("ab") as file:
        file.write(b'{"kind":\n')
        file.flush()
        assert [news.item for news in state.poll() if isinstance(news, Answer)] == ["1"]
        file.write(encode(answer("2")))
    with pytest.raises(EasiError, match="line 3"):
        state.poll()


def test_blocks_that_never_reached_the_disk_cost_what_they_held(tmp_path: Path) -> None:
    """After a power failure, zeros run from the middle of one line into the middle of another.

    Every place after the header is tried.
    """
    path = write(tmp_path, "w0.jsonl", *(answer(str(number), "x" * 30) for number in range(6)))
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    starts = [
        header + at
        for at in range(len(whole) - header)
        if whole[header + at - 1 : header + at] == b"\n"
    ]
    for first in range(header, len(whole), 7):
        last = min(first + 150, len(whole))
        path.write_bytes(whole[:first] + b"\0" * (last - first) + whole[last:])
        kept = {
            str(number)
            for number, start in enumerate(starts)
            if (end := whole.index(b"\n", start)) < first or (start > last and end < len(whole))
        }
        found = read(tmp_path, {"blink": 0})
        assert {item for _, item in found} >= kept and all(
            each.text == "x" * 30 for each in found.values()
        )


def test_files_of_others_in_the_folder(tmp_path: Path) -> None:
    """Files that another system leaves beside each copied file are no journals.

    A file that claims to be a journal and is none is named.
    """
    write(tmp_path, "w0.jsonl", answer("1"))
    (tmp_path / "._w0.jsonl").write_bytes(b"\0\5\26\7\n\0\2\n\xff\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    assert set(read(tmp_path, {"blink": 0})) == {("blink", "1")}
    (tmp_path / "a copy.jsonl").write_text('{"question": 1}\n{"question": 2}\n')
    with pytest.raises(EasiError, match=r"a copy\.jsonl is damaged in line 1"):
        read(tmp_path, {"blink": 0})


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "w0.jsonl", answer("1"))
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":99', 1))
    with pytest.raises(EasiError, match="version 99"):
        read(tmp_path, {"blink": 0})


def test_duplicates_have_one_winner(tmp_path: Path) -> None:
    records = [
        answer("1", None, failure="A: early", fence=1),
        answer("1", "late", fence=5),
        answer("1", "stale", fence=3),
        answer("1", "stale too", fence=3),
        answer("1", "old epoch", epoch=7, fence=0),
        answer("1", None, failure="B: last", fence=9),
    ]
    for seed in range(30):
        folder = tmp_path / str(seed)
        shuffled = random.Random(seed).sample(records, len(records))
        for place, record in enumerate(shuffled):
            write(folder, f"w{place}.jsonl", record)
        first = next(r.text for r in shuffled if r.text in ("stale", "stale too"))
        assert read(folder, {"blink": 0})["blink", "1"].text == first


def test_failures_of_an_earlier_launch_are_asked_again(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a.jsonl",
        answer("1", None, failure="A: first", launch=0),
        answer("2", "kept", launch=0),
    )
    assert set(read(tmp_path, {"blink": 0}, launch=1)) == {("blink", "2")}
    write(tmp_path, "b.jsonl", answer("1", None, failure="B: second", launch=1), launch=1)
    assert read(tmp_path, {"blink": 0}, launch=1)["blink", "1"].failure == "B: second"
    assert read(tmp_path, {"blink": 0})["blink", "1"].failure == "B: second"


def test_a_question_begun_and_left_tells_of_a_death(tmp_path: Path) -> None:
    items = [Item("blink", str(number)) for number in range(4)]
    for attempt in range(2):
        with Journal(tmp_path, "w0", attempt, launch=1) as journal:
            journal.leased(items[:3])
            journal.answer(answer("0", launch=1))
            journal.returned(items[1:2], "Oops: no")
    with Journal(tmp_path, "w0", 0, launch=0) as earlier:
        earlier.leased(items)
    state = JournalState(tmp_path, {"blink": 0}, launch=1)
    state.poll()
    assert [state.deaths(item.key) for item in items] == [0, 0, 2, 0]


def test_each_record_is_news_once(tmp_path: Path) -> None:
    state = JournalState(tmp_path, {})
    assert state.poll() == []
    with Journal(tmp_path, "w0", 0) as one, Journal(tmp_path, "w1", 2) as two:
        one.phase("loading the model")
        news = state.poll()
        assert [(n.worker, n.attempt, n.phase) for n in news if isinstance(n, Phase)] == [
            ("w0", 0, "loading the model")
        ]
        two.answer(answer("1"))
        one.answer(answer("2"))
        os.write(os.open(two.path, os.O_WRONLY | os.O_APPEND), encode(answer("3"))[:20])
        assert {n.item for n in state.poll() if isinstance(n, Answer)} == {"1", "2"}
        assert state.poll() == []


def test_news_are_of_this_launch(tmp_path: Path) -> None:
    for launch in (1, 2):
        with Journal(tmp_path, "w0", 0, launch) as journal:
            journal.phase(f"launch {launch}")
            journal.answer(answer(str(launch), launch=launch))
    state = JournalState(tmp_path, {"blink": 0}, launch=2)
    assert sorted(str(getattr(news, "phase", "")) for news in state.poll()) == ["", "launch 2"]
    assert set(state.answers) == {("blink", "1"), ("blink", "2")}


def test_counts(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", answer("1"), answer("gone"))
    write(
        tmp_path,
        "b.jsonl",
        answer("2", None, failure="A: b", launch=1),
        answer("3", launch=1),
        launch=1,
    )
    state = JournalState(tmp_path, {"blink": 0}, launch=1)
    state.poll()
    count = state.count(ItemList("blink", 9, ("1", "2", "3", "4")))
    assert (count.done, count.total, count.failed, count.now) == (3, 4, 1, 2)


def test_pending(tmp_path: Path) -> None:
    work = Work((Assignment("blink", "BLINK", limit=2),))
    assert pending(tmp_path, work)
    write(tmp_path / "journal", "a.jsonl", answer("1"), answer("2"))
    assert pending(tmp_path, work), "nobody knows yet which questions there are"
    ItemList("blink", 5, ("1", "2"), limit=2).save(tmp_path)
    assert not pending(tmp_path, work)
    assert pending(
        tmp_path, dataclasses.replace(work, benchmarks=(Assignment("blink", "BLINK", limit=3),))
    )
    assert pending(
        tmp_path,
        dataclasses.replace(work, benchmarks=(Assignment("blink", "BLINK", epoch=1, limit=2),)),
    )


def test_full_disk_is_said_and_leaves_whole_lines(tmp_path: Path) -> None:
    """A file size limit stands for the disk: the kernel takes a part of the line, then refuses."""
    program = f"""
import resource, signal
from pathlib import Path
from easi_eval.engine.journal import Answer, Journal
from easi_eval.core.errors import EasiError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(tmp_path)!r}), "w0", 0)
journal.answer(Answer("blink", "1", 0, "whole", 0.1))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    journal.answer(Answer("blink", "2", 0, "x" * 10000, 0.1))
except EasiError as error:
    print(error.message)
journal.answer(Answer("blink", "3", 0, "short", 0.1))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "could not be written" in done.stdout
    assert {item for _, item in read(tmp_path, {"blink": 0})} == {"1", "3"}


def test_a_killed_writer_loses_nothing_it_finished(tmp_path: Path) -> None:
    program = f"""
import itertools
from pathlib import Path
from easi_eval.engine.journal import Answer, Journal
journal = Journal(Path({str(tmp_path)!r}), "w0", 0)
for number in itertools.count():
    journal.answer(Answer("blink", str(number), 0, "x" * 5000, 0.1))
    print(number, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().splitlines()]
    assert {("blink", str(number)) for number in seen} <= set(read(tmp_path, {"blink": 0}))


def test_work_and_items_round_trip(tmp_path: Path) -> None:
    work = Work(
        (Assignment("blink", "BLINK", 2, 5), Assignment("omnispatial_(manual_cot)", "x")),
        {"blink": "f00"},
        7,
        3,
    )
    work.save(tmp_path)
    assert Work.load(tmp_path) == work
    items = ItemList("omnispatial_(manual_cot)", 3, ("ü", "\ud800", "a/b"))
    items.save(tmp_path)
    assert ItemList.load(tmp_path, items.key) == items
    (tmp_path / "work.json").write_text('{"schema": 1}')
    with pytest.raises(EasiError, match="work.json"):
        Work.load(tmp_path)
    with pytest.raises(EasiError, match="two questions with the id '7'"):
        ItemList("blink", 3, ("7", "8", "7"))


def test_item_seeds_depend_on_all_three() -> None:
    seeds = {
        item_seed(run, benchmark, item)
        for run in range(3)
        for benchmark in "ab"
        for item in ("1", "2", "12")
    }
    assert len(seeds) == 18 and all(0 <= seed < 2**31 for seed in seeds)
    assert item_seed(0, "blink", "1") == item_seed(0, "blink", "1")


def test_texts_can_be_left_out(tmp_path: Path) -> None:
    """Of answers and failures the state is otherwise the same."""
    write(
        tmp_path, "w0.jsonl", answer("1", "long"), answer("2", ""), answer("3", None, failure="E")
    )
    whole = read(tmp_path, {"blink": 0})
    state = JournalState(tmp_path, {"blink": 0}, texts=False)
    assert sum(isinstance(one, Answer) for one in state.news()) == 3
    assert state.answers == {
        key: dataclasses.replace(one, text=one.text and "") for key, one in whole.items()
    }
