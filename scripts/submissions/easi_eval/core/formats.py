"""Numbers as people read them: durations, rates, sizes and shares."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Format seconds with two units at most: 8 s, 12 min, 1 h 05 min, 2 d 3 h."""
    whole = max(round(seconds), 0)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def short_duration(seconds: float) -> str:
    """Format seconds in at most six characters: 8 s, 12 min, 1h05m, 2d03h."""
    minutes = round(max(seconds, 0) / 60)
    if minutes < 60:
        return duration(seconds)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes // (24 * 60)}d{minutes // 60 % 24:02}h"


def clock_time(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds: 0:03:12."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def per_time(rate: float | None) -> str:
    """Format a rate per second in the unit that gives at least one: 3.1/s, 24/min, 7/h."""
    if not rate:
        return ""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if rate * factor >= 1 or unit == "h":
            value = rate * factor
            return f"{value:.1f}/{unit}" if value < 10 else f"{value:.0f}/{unit}"
    raise AssertionError("the last unit always returns")


def size(count: float) -> str:
    """Format bytes in decimal units, as downloads are counted."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit always returns")


def large(count: int) -> str:
    """Format a count: 12,345 and, from a million on, 1.2 M."""
    return f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:,.1f} M"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: 1 answer, 2,000 answers."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(done: int, total: int) -> str:
    """Format a share in percent, rounded down: only a complete count shows 100 %."""
    return f"{100 * done // total} %" if total else ""
