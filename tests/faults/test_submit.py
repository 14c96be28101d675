"""Sending against a board that fails in every way.

A run is never recorded twice, and the record beside the run is right.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from board import LIMIT, PATH, Board, Fault, digest
from easi_eval.core.errors import EasiError
from easi_eval.submission.client import Patience, send
from easi_eval.submission.endpoint import NotTaken
from easi_eval.submission.parcel import Parcel
from easi_eval.submission.reply import OutcomeUnknown, Sent
from easi_eval.submission.send import submit
from easi_eval.submission.send_record import FILE, Fate, SendRecord

pytestmark = pytest.mark.faults
TOKEN = "hf_" + "NeverShowThisToken" * 2
QUICK = Patience(connect=5.0, answer=0.4, waits=(0.0, 0.0), longest=5.0)
PAYLOAD: dict[str, Any] = {
    "modelName": "org/Modèle",
    "modelType": "instruction",
    "precision": "bfloat16",
    "revision": "main",
    "weightType": "Original",
    "baseModel": "",
    "remarks": 'a "quoted"\r\n--line',
    "backend": "vlmevalkit",
    "scores": {
        "vsi_bench": 12.3456,
        "mmsi_bench": 0.0,
        "mindcube_tiny": 100.0,
        "viewspatial": 1.0,
        "site": -3.25,
        "blink": 50.0,
        "3dsrbench": 44.4444,
        "embspatial": 9.9,
        "spar_bench": None,
    },
    "subScores": {"site": {"spatial": 1.0, "3d": None}, "spar_bench": {"low": None}},
}


def archive_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("blink/rows.jsonl", content)
    return buffer.getvalue()


ARCHIVE = archive_of(b"line one\nline two\r\n\r\n--boundary\r\n" * 3)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the tester's stands between the program and loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def board() -> Iterator[Board]:
    with Board(TOKEN, duplicates=True) as running:
        yield running


def parcel(url: str, archive: bytes = ARCHIVE, **changes: Any) -> Parcel:
    return Parcel(
        url,
        {**PAYLOAD, **changes},
        archive,
        (Path("/out/easi_results.json"), Path("/out/easi_results.zip")),
    )


def fates(folder: Path) -> list[Fate]:
    return [entry.state for entry in SendRecord.load(folder / FILE).submissions]


# ---- what is sent --------------------------------------------------------------------------------


def test_what_arrives_is_what_was_to_be_sent(board: Board, tmp_path: Path) -> None:
    said: list[str] = []
    submit(tmp_path, parcel(board.url), TOKEN, say=said.append)
    (entry,) = board.entries
    assert entry.archive == ARCHIVE
    assert (
        entry.payload["remarks"] == PAYLOAD["remarks"]
        and entry.payload["modelName"] == "org/Modèle"
    )
    assert "spar_bench" not in entry.payload["scores"] and entry.payload["scores"]["site"] == -3.25
    assert entry.payload["subScores"] == {"site": {"spatial": 1.0}}
    assert board.requests[0][:2] == (PATH, f"Bearer {TOKEN}")
    assert "submitted" in said[-1] and "received" in said[-1]
    (kept,) = SendRecord.load(tmp_path / FILE).submissions
    assert (kept.state, kept.payload, kept.archive) == (
        Fate.CONFIRMED,
        digest(entry.raw.encode()),
        digest(ARCHIVE),
    )
    (copy,) = tmp_path.glob("easi_sent_*.zip")
    assert copy.read_bytes() == ARCHIVE and copy.stem.removeprefix("easi_sent_") in kept.archive
    assert kept.began <= kept.ended and kept.host == board.address.removeprefix("http://")
    assert TOKEN not in (tmp_path / FILE).read_text() + " ".join(said)


def test_the_description_is_the_request_without_the_token(board: Board) -> None:
    request = parcel(board.url)
    text = request.describe()
    assert (
        f"POST {board.url}" in text
        and f"Content-Length: {len(request.body)}" in text
        and request.content_type in text
    )
    assert digest(ARCHIVE) in text and '"site": -3.25' in text and TOKEN not in text
    # the same each time: what is shown is what is sent
    assert request.body == parcel(board.url).body


def test_a_netrc_entry_does_not_replace_the_token(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert isinstance(send(parcel(board.url), TOKEN, QUICK), Sent)
    assert board.requests[0][1] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_that_of_the_whole_body(board: Board, over: int) -> None:
    empty = len(parcel(board.url, archive_of(b"")).body)
    filled = archive_of(random.Random(1).randbytes(LIMIT - empty + over))
    if not over:
        request = parcel(board.url, filled)
        assert len(request.body) == LIMIT
        assert send(request, TOKEN, Patience(answer=20.0)).said == "received"
        return
    with pytest.raises(NotTaken, match="4,500,001 bytes") as refused:
        parcel(board.url, filled)
    assert (
        "/out/easi_results.json and /out/easi_results.zip" in refused.value.hint
        and "/submit/" in refused.value.hint
    )
    assert not board.requests


@pytest.mark.parametrize(
    "token", [None, "", "hf with space", "hf_\nX", "hf_ü", "nonsense", "hf_..."]
)
def test_what_is_no_token_is_not_sent_and_not_shown(
    board: Board, tmp_path: Path, token: str | None
) -> None:
    with pytest.raises(EasiError, match="HF_TOKEN") as refused:
        submit(tmp_path, parcel(board.url), token, say=lambda text: None)
    assert not token or token not in refused.value.message + refused.value.hint
    assert not board.requests and not (tmp_path / FILE).exists()


def test_a_payload_without_the_eight_is_not_sent(board: Board, tmp_path: Path) -> None:
    with pytest.raises(EasiError, match="no score for blink") as refused:
        submit(tmp_path, parcel(board.url, scores={**PAYLOAD["scores"], "blink": None}), TOKEN)
    assert refused.value.code == 3 and not board.requests


# ---- answers -------------------------------------------------------------------------------------

HTML = "<html>\n<body>\x1b[31mnice\x00 page</body></html>"
NO = json.dumps({"success": False, "error": "precision does not fit"})


@pytest.mark.parametrize(
    ("fault", "fate", "words"),
    [
        (Fault(status=400, body=NO), Fate.REFUSED, "precision does not fit"),
        (Fault(status=401, body='{"detail": "bad token"}'), Fate.REFUSED, "bad token"),
        (Fault(status=403, body=""), Fate.REFUSED, "(an empty reply)"),
        (Fault(status=413, body=HTML), Fate.REFUSED, "HTTP 413"),
        (Fault(status=409, body='{"success": true}'), Fate.REFUSED, "HTTP 409"),
        (Fault(status=200, body=NO), Fate.REFUSED, "precision does not fit"),
        (
            Fault(status=307, headers={"Location": "https://other.example/x"}),
            Fate.REFUSED,
            "https://other.example/x",
        ),
        (
            Fault(status=302, headers={"Location": "/done"}, records=True),
            Fate.UNKNOWN,
            "redirect to /done",
        ),
        (
            Fault(status=200, body=HTML, records=True),
            Fate.UNKNOWN,
            "<html> <body> [31mnice page</body></html>",
        ),
        (Fault(status=200, body="", records=True), Fate.UNKNOWN, "(an empty reply)"),
        (
            Fault(status=200, body='["success"]'),
            Fate.UNKNOWN,
            "not a documented reply of the leaderboard",
        ),
        (
            Fault(status=200, body='{"ok": true}', records=True),
            Fate.UNKNOWN,
            "not a documented reply",
        ),
        (Fault(status=200, body="[" * 60000), Fate.UNKNOWN, "not a documented reply"),
        (Fault(status=500, body=NO), Fate.UNKNOWN, "HTTP 500"),
        (Fault(status=502, body=HTML, records=True), Fate.UNKNOWN, "HTTP 502"),
        (Fault(status=504, body=HTML), Fate.UNKNOWN, "HTTP 504"),
        (Fault("hang", records=True), Fate.UNKNOWN, "gave no answer"),
        (Fault("reset", records=True), Fate.UNKNOWN, "gave no answer"),
        (Fault("early"), Fate.UNKNOWN, "gave no answer"),
        (Fault("torn", status=200, body='{"success": tr', records=True), Fate.UNKNOWN, "cut off"),
        (Fault("torn", status=400, body="no"), Fate.REFUSED, "HTTP 400: no"),
        (Fault("trickle", status=200, body='{"success"', records=True), Fate.UNKNOWN, "HTTP 200"),
        (Fault(status=503), Fate.REFUSED, "HTTP 503"),
        (Fault(status=429, headers={"Retry-After": "3600"}), Fate.REFUSED, "HTTP 429"),
        (
            Fault(status=429, body='{"error": "try again in 42 minutes"}'),
            Fate.REFUSED,
            "42 minutes",
        ),
        (Fault(status=429), Fate.REFUSED, "HTTP 429"),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else None,
)
def test_every_fault_ends_as_it_should(
    board: Board, tmp_path: Path, fault: Fault, fate: Fate, words: str
) -> None:
    board.fail(*[fault] * 3)
    said: list[str] = []
    with pytest.raises(NotTaken if fate is Fate.REFUSED else OutcomeUnknown) as ended:
        submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, said.append)
    assert ended.value.code == 3 and words in ended.value.message and ended.value.hint
    assert fault.status != 429 or "minutes" in ended.value.hint
    assert fate is Fate.REFUSED or "ask easi-lmms-lab@outlook.com" in ended.value.hint, (
        "what is under review is not shown"
    )
    assert ended.value.message.isprintable() and len(ended.value.message) < 400
    assert fates(tmp_path) == [fate]
    assert len(board.requests) == (3 if fault.status == 503 else 1)
    assert len(board.entries) == fault.records

    requests = len(board.requests)
    board.fail()
    if fate is Fate.REFUSED:
        submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, said.append)
    else:
        for other in (parcel(board.url), parcel(board.url, remarks="other words")):
            with pytest.raises(EasiError, match="nothing was sent") as again:
                submit(tmp_path, other, TOKEN, False, QUICK, said.append)
            assert again.value.code == 3 and "--resubmit" in again.value.hint
        assert len(board.requests) == requests
        submit(tmp_path, parcel(board.url), TOKEN, True, QUICK, said.append)
    assert fates(tmp_path) == [fate, Fate.CONFIRMED]
    submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, said.append)
    assert "already submitted" in said[-1] and len(board.requests) == requests + 1


@pytest.mark.parametrize(
    "first",
    [
        Fault(status=503, headers={"Retry-After": "1"}),
        Fault(status=429, headers={"Retry-After": "1"}),
    ],
)
def test_a_board_that_asks_for_patience_gets_it(board: Board, tmp_path: Path, first: Fault) -> None:
    board.fail(first)
    said: list[str] = []
    submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, said.append)
    (_, _, before), (_, _, after) = board.requests
    assert after - before >= 1.0
    assert any("trying again in 1 s" in line for line in said)
    assert len(board.entries) == 1 and fates(tmp_path) == [Fate.CONFIRMED]


def test_a_date_to_wait_for_is_understood(board: Board) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    board.fail(Fault(status=429, headers={"Retry-After": later}))
    with pytest.raises(NotTaken, match="HTTP 429") as refused:
        send(parcel(board.url), TOKEN, QUICK)
    assert "7" in refused.value.hint.partition(" s (")[0] and len(board.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_token_leaves(board: Board, status: int) -> None:
    with Board(TOKEN) as other:
        board.fail(Fault(status=status, headers={"Location": other.url}))
        with pytest.raises((NotTaken, OutcomeUnknown), match="redirect"):
            send(parcel(board.url), TOKEN, QUICK)
        assert other.requests == [] and len(board.requests) == 1


def test_a_board_that_repeats_the_token_does_not_make_us_show_it(
    board: Board, tmp_path: Path
) -> None:
    said: list[str] = []
    for fault in (
        Fault(status=400, body=f"you sent {TOKEN}"),
        Fault(status=307, headers={"Location": f"/?token={TOKEN}"}),
        Fault(status=400, body=json.dumps({"error": "x" * 190 + TOKEN})),
    ):
        board.fail(fault)
        with pytest.raises(NotTaken) as refused:
            submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, said.append)
        assert (
            "NeverShow"
            not in refused.value.message
            + refused.value.hint
            + " ".join(said)
            + (tmp_path / FILE).read_text()
        )


# ---- no way there --------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_refused_connection_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(NotTaken, match="cannot be reached .Connection refused"):
        submit(
            tmp_path,
            parcel(f"http://127.0.0.1:{closed_port()}{PATH}"),
            TOKEN,
            False,
            QUICK,
            said.append,
        )
    assert len([line for line in said if "trying again" in line]) == len(QUICK.waits)
    assert fates(tmp_path) == [Fate.REFUSED]


def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(NotTaken, match=r"board\.invalid:443 cannot be reached"):
        submit(
            tmp_path, parcel(f"https://board.invalid{PATH}"), TOKEN, False, QUICK, lambda text: None
        )
    assert fates(tmp_path) == [Fate.REFUSED]


def test_tls_that_fails_sends_nothing(board: Board, tmp_path: Path) -> None:
    """The board speaks no TLS: the handshake fails before any of the request leaves."""
    with pytest.raises(NotTaken, match="cannot be reached"):
        submit(
            tmp_path,
            parcel(board.url.replace("http://", "https://")),
            TOKEN,
            False,
            QUICK,
            lambda text: None,
        )
    assert not board.requests and fates(tmp_path) == [Fate.REFUSED]


def test_a_certificate_nobody_vouches_for_is_not_tried_again(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def accept() -> None:
            try:
                context.wrap_socket(listening.accept()[0], server_side=True).close()
            except OSError:
                return

        serving = threading.Thread(target=accept, daemon=True)
        serving.start()
        with pytest.raises(NotTaken, match="cannot be reached") as refused:
            submit(
                tmp_path,
                parcel(f"https://localhost:{listening.getsockname()[1]}{PATH}"),
                TOKEN,
                False,
                QUICK,
                said.append,
            )
        serving.join()
    assert "REQUESTS_CA_BUNDLE" in refused.value.hint and not [
        line for line in said if "again" in line
    ]


# ---- ended in the middle -------------------------------------------------------------------------

SENDER = """
import sys
from pathlib import Path
from test_submit import parcel, QUICK, TOKEN
from easi_eval.submission.client import Patience
from easi_eval.submission.send import submit
submit(Path(sys.argv[1]), parcel(sys.argv[2]), TOKEN, False, Patience(waits=(60.0,)), lambda text: print(text, flush=True))
"""  # noqa: E501 -- lines of a program in a string


def sender(folder: Path, url: str) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    path = os.pathsep.join((str(here), str(here.parent)))
    return subprocess.Popen(
        [sys.executable, "-c", SENDER, str(folder), url],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("number", "fate"), [(signal.SIGKILL, Fate.SENDING), (signal.SIGINT, Fate.UNKNOWN)]
)
def test_ended_while_the_board_thinks(
    board: Board, tmp_path: Path, number: signal.Signals, fate: Fate
) -> None:
    board.fail(Fault("hang", records=True))
    with sender(tmp_path, board.url) as process:
        while not board.entries:
            assert process.poll() is None, process.communicate()
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert fates(tmp_path) == [fate]
    assert ("unknown" in out) == (number is signal.SIGINT)
    with pytest.raises(EasiError, match="nothing was sent"):
        submit(tmp_path, parcel(board.url), TOKEN, False, QUICK)
    assert len(board.requests) == len(board.entries) == 1


def test_ended_between_two_tries_is_no_doubt(board: Board, tmp_path: Path) -> None:
    board.fail(Fault(status=503))
    with sender(tmp_path, board.url) as process:
        assert process.stdout is not None
        while "trying again" not in (line := process.stdout.readline()):
            assert line, "it ended"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert fates(tmp_path) == [Fate.REFUSED]
    submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, lambda text: None)
    assert len(board.entries) == 1


# ---- the record ----------------------------------------------------------------------------------


def test_other_contents_are_sent_and_the_same_are_not(board: Board, tmp_path: Path) -> None:
    said: list[str] = []
    for changes in ({}, {"remarks": "corrected"}, {}, {"remarks": "corrected"}):
        submit(tmp_path, parcel(board.url, **changes), TOKEN, False, QUICK, said.append)
    submit(
        tmp_path, parcel(board.url, archive_of(b"other files")), TOKEN, False, QUICK, said.append
    )
    assert len(board.entries) == 2 and "with another archive" in said[-1]
    back, same = said[-3], said[-2]  # to the first one, and to the second, which is the newest
    assert "already submitted" in back and "is newer; --resubmit sends this one again" in back
    assert "already submitted" in same and "newer" not in same and "--resubmit" not in same
    submit(tmp_path, parcel(board.url, archive_of(b"other files")), TOKEN, True, QUICK, said.append)
    assert len(board.entries) == 3


def test_another_board_knows_nothing_of_it(board: Board, tmp_path: Path) -> None:
    with Board(TOKEN) as other:
        board.fail(Fault("reset"))
        with pytest.raises(OutcomeUnknown):
            submit(tmp_path, parcel(board.url), TOKEN, False, QUICK, lambda text: None)
        submit(tmp_path, parcel(other.url), TOKEN, False, QUICK, lambda text: None)
        assert len(other.entries) == 1
    assert fates(tmp_path) == [Fate.UNKNOWN, Fate.CONFIRMED]
    with pytest.raises(EasiError, match="unknown outcome"):
        submit(tmp_path, parcel(board.url), TOKEN, False, QUICK)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"schema": 9, "submissions": []}',
        '{"schema": 1, "submissions": [{"state": "x"}]}',
        '{"schema": 1, "submissions": [7]}',
        "\udcff",
    ],
)
def test_a_damaged_record_stops_the_sending(board: Board, tmp_path: Path, damage: str) -> None:
    (tmp_path / FILE).write_bytes(damage.encode("utf-8", "surrogateescape"))
    with pytest.raises(EasiError, match="damaged") as refused:
        submit(tmp_path, parcel(board.url), TOKEN, False, QUICK)
    assert refused.value.code == 3 and not board.requests
    submit(tmp_path, parcel(board.url), TOKEN, True, QUICK, lambda text: None)
    assert fates(tmp_path) == [Fate.CONFIRMED]


def test_what_cannot_be_noted_is_not_sent(board: Board, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run's folder should be")
    with pytest.raises(EasiError, match="nothing was sent") as refused:
        submit(tmp_path / "run", parcel(board.url), TOKEN, False, QUICK)
    assert refused.value.code == 3 and not board.requests


# ---- 1,000 times ---------------------------------------------------------------------------------

SOME_FAULTS = (
    Fault(status=400, body=NO),
    Fault(status=401),
    Fault(status=413),
    Fault(status=429, headers={"Retry-After": "0"}),
    Fault(status=503),
    Fault(status=500),
    Fault(status=500, records=True),
    Fault(status=502, records=True),
    Fault(status=502),
    Fault(status=504),
    Fault("reset"),
    Fault("reset", records=True),
    Fault("early"),
    Fault(status=200, body=HTML),
    Fault(status=200, body=HTML, records=True),
    Fault("torn", status=200, body='{"success": tr', records=True),
    Fault(status=303, headers={"Location": "/x"}, records=True),
    Fault(status=308, headers={"Location": "/x"}),
    Fault("hang", records=True),
    Fault("hang"),
)


@pytest.mark.slow
def test_a_run_is_never_recorded_twice(board: Board, tmp_path: Path) -> None:
    """Whatever fails, in whatever order, and however often the same command is given again."""
    dice = random.Random(20260801)
    brief = Patience(connect=5.0, answer=0.05, waits=(0.0, 0.0), longest=5.0)
    ends: set[Fate] = set()
    for number in range(1000):
        folder = tmp_path / str(number)
        folder.mkdir()
        request = parcel(board.url, remarks=f"run {number}")
        for _ in range(3):
            board.fail(
                *dice.choices(
                    SOME_FAULTS,
                    weights=[1 if fault.kind == "hang" else 6 for fault in SOME_FAULTS],
                    k=dice.randrange(4),
                )
            )
            before = len(board.requests)
            try:
                submit(folder, request, TOKEN, False, brief, lambda text: None)
            except EasiError as error:
                assert error.code == 3
            recorded = [
                entry for entry in board.entries if entry.payload["remarks"] == f"run {number}"
            ]
            assert len(recorded) <= 1
            state = fates(folder)[-1]
            ends.add(state)
            if state is Fate.CONFIRMED:
                assert len(recorded) == 1
            elif state is Fate.REFUSED:
                assert not recorded
            else:
                assert state is Fate.UNKNOWN
            if fates(folder)[:-1] and fates(folder)[-2] in (Fate.CONFIRMED, Fate.UNKNOWN):
                raise AssertionError(
                    f"something was sent after {fates(folder)}, {len(board.requests) - before} "
                    "requests"
                )
    assert ends == {Fate.CONFIRMED, Fate.REFUSED, Fate.UNKNOWN}
