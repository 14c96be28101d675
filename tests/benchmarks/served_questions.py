"""Questions a second that client processes of ``--base-url`` can ask, where the server is free.

A server pinned to one core reads each question, throws it away and says "A". The client processes,
on the other cores, encode 32 frames of 640 x 480 for each question; then they send as many files,
and then they name them. With N cores left over, N processes should ask at least 0.7 N times as many
questions as one. The processor seconds of a client's question also tell on a busy machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

FRAMES, SIZE = 32, (640, 480)
SHOWN = {
    "memory": "images in memory, sent as PNG",
    "sent": "JPEG files, sent",
    "named": "JPEG files, named",
}
REPLY = b'{"choices":[{"message":{"content":"A"},"finish_reason":"stop"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(REPLY)


def serve(core: int, listener: socket.socket) -> None:
    """Answer every request, one thread per connection, on one core."""
    os.sched_setaffinity(0, {core})

    def answer(connection: socket.socket) -> None:
        lines, trash = connection.makefile("rb"), memoryview(bytearray(1 << 20))
        while lines.readline():
            length = 0
            while (line := lines.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            while length:
                length -= lines.readinto(trash[: min(length, len(trash))])
            connection.sendall(HEAD + REPLY)

    while True:
        threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()


@contextmanager
def server(core: int) -> Iterator[str]:
    """The server in a process of its own; its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if not (child := os.fork()):
            serve(core, listener)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def ask(url: str, seconds: float, shown: str) -> tuple[int, float]:
    """Ask for so long with the threads of one client process.

    Args:
        url: The server.
        seconds: How long.
        shown: One of ``SHOWN``.

    Returns:
        The number of questions answered in time, and the seconds of a core that one took.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _ask(url, seconds, shown, Path(folder).resolve())


def _ask(url: str, seconds: float, shown: str, folder: Path) -> tuple[int, float]:
    from PIL import Image

    from easi_eval.engine.served.served_client import Sampling, ServedClient

    noise = [Image.effect_noise(SIZE, 8).convert("RGB") for _ in range(4)]
    paths = [folder / f"{number}.jpg" for number in range(len(noise))]
    for path, picture in zip(paths, noise, strict=True):
        picture.save(path)
    pictures = noise if shown == "memory" else paths
    frames = [{"type": "image", "image": pictures[number % 4]} for number in range(FRAMES)]
    messages = [{"role": "user", "content": [{"type": "text", "text": "Which?"}, *frames]}]
    client = ServedClient("m", url, readable=str(folder) if shown == "named" else "")
    began, until = time.process_time(), time.monotonic() + seconds

    asked = itertools.count()

    def one(_: int) -> int:
        count = 0
        while time.monotonic() < until:
            client.ask(messages, Sampling(16))
            next(asked)
            count += time.monotonic() < until
        return count

    threads = 4
    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(one, range(threads)))
    return count, (time.process_time() - began) / max(1, next(asked))


def rate(
    url: str, processes: int, cores: set[int], seconds: float, shown: str = "memory"
) -> tuple[float, float]:
    """Questions a second of so many client processes, one core for each, and their seconds each."""
    chosen = sorted(cores)
    command = [sys.executable, __file__, "--url", url, "--seconds", str(seconds)]
    children = [
        subprocess.Popen(
            [*command, "--shown", shown, "--core", str(chosen[number % len(chosen)])],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    told = [child.communicate()[0].split() for child in children]
    used = [float(each) for _, each in told]
    return sum(int(number) for number, _ in told) / seconds, sum(used) / len(used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--url", help="used by the client processes")
    parser.add_argument("--core", type=int, help="used by the client processes")
    parser.add_argument("--shown", choices=SHOWN, help="used by the client processes")
    options = parser.parse_args()
    if options.url:
        os.sched_setaffinity(0, {options.core})
        print(*ask(options.url, options.seconds, options.shown))
        return
    cores = sorted(os.sched_getaffinity(0))
    left = set(cores[1:]) or set(cores)
    with server(cores[0]) as url:
        for shown, words in SHOWN.items():
            each, used = rate(url, 1, left, options.seconds, shown)
            print(f"1 process on 1 core, {words}: {each:.2f} questions/s, {used:.4f} s of a core")
        print(f"each of {FRAMES} frames, load {os.getloadavg()}")
        if len(left) < 2:
            print("one core is left over: N processes over one cannot be measured here")
            return
        one, _ = rate(url, 1, left, options.seconds)
        many, _ = rate(url, len(left), left, options.seconds)
        print(f"{len(left)} processes on {len(left)} cores: {many:.2f} ({many / one:.2f} x)")
        print(f"per core: {many / one / len(left):.2f} (goal: at least 0.7)")


if __name__ == "__main__":
    main()
