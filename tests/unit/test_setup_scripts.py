"""The set-up scripts.

Index settings carried over from pip, the state of an environment, the locks, and the shell scripts'
refusals.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS / "setup"))

import environment as environments
import flash_build
from environment import PROJECTS, State, differing, look, normal, origin, pins, stale_projects
from index_settings import parse_pip_config, untied, uv_variables

NEWER = SCRIPTS / "setup" / "locks" / "profile5.lock"
LOCKS = sorted({*NEWER.parent.glob("*.lock")} - {NEWER})


def bash(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# ---- pip's settings ------------------------------------------------------------------------------

LISTING = """\
:env:.default-timeout='180'
:env:.extra-index-url='https://env.example/simple'
global.cert='/etc/ssl/company.pem'
global.extra-index-url='https://global.example/simple'
global.index-url='https://me:secret@mirror.example/simple'
global.trusted-host='a.example\\nb.example'
install.index-url='https://install.example/simple'
download.index-url='https://download.example/simple'
"""


def test_pip_config_is_read_with_pips_precedence() -> None:
    options = parse_pip_config(LISTING)
    assert options["index-url"] == "https://install.example/simple"
    assert options["extra-index-url"] == "https://env.example/simple"
    assert options["trusted-host"].split() == ["a.example", "b.example"]


def test_settings_reach_uv() -> None:
    variables = uv_variables(parse_pip_config(LISTING), {})
    assert variables == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INDEX_URL": "https://install.example/simple",
        "UV_EXTRA_INDEX_URL": "https://env.example/simple",
        "UV_INSECURE_HOST": "a.example b.example",
        "SSL_CERT_FILE": "/etc/ssl/company.pem",
        "UV_HTTP_TIMEOUT": "180",
    }


@pytest.mark.parametrize(
    ("option", "value", "variable", "expected"),
    [
        ("proxy", "http://proxy:3128", "HTTPS_PROXY", "http://proxy:3128"),
        ("no-index", "true", "UV_NO_INDEX", "1"),
        ("no-index", "false", "UV_NO_INDEX", None),
        ("timeout", "15.5", "UV_HTTP_TIMEOUT", "16"),
        ("timeout", "soon", "UV_HTTP_TIMEOUT", None),
        ("no-cache-dir", "1", "UV_NO_CACHE", "1"),
        ("client-cert", "/c.pem", "SSL_CLIENT_CERT", "/c.pem"),
        ("keyring-provider", "subprocess", "UV_KEYRING_PROVIDER", "subprocess"),
        (
            "find-links",
            "/wheels https://links.example/x",
            "UV_FIND_LINKS",
            "/wheels,https://links.example/x",
        ),
    ],
)
def test_one_option_reaches_uv(
    option: str, value: str, variable: str, expected: str | None
) -> None:
    given = uv_variables({option: value}, {}, exists=lambda path: True)
    assert given.get(variable) == expected


def test_what_the_user_set_for_uv_stays() -> None:
    options = {
        "index-url": "https://pip.example/simple",
        "extra-index-url": "https://more.example",
        "cert": "/pip.pem",
    }
    own = {"UV_DEFAULT_INDEX": "https://uv.example/simple", "SSL_CERT_FILE": "/own.pem"}
    assert uv_variables(options, own) == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_a_certificate_for_requests_serves_uv_too() -> None:
    given = uv_variables({}, {"REQUESTS_CA_BUNDLE": "/company.pem"})
    assert given["SSL_CERT_FILE"] == "/company.pem"


def test_local_folders_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    there = (tmp_path / "with space").as_uri()
    given = uv_variables(
        {
            "extra-index-url": f"{there} file:///does/not/exist https://far.example/simple",
            "find-links": f"/does/not/exist {tmp_path}",
        },
        {},
    )
    assert given["UV_EXTRA_INDEX_URL"] == f"{there} https://far.example/simple"
    assert given["UV_FIND_LINKS"] == str(tmp_path)


def test_no_other_environment_leaks_in() -> None:
    tied = {"PYTHONPATH": "/mine", "CONDA_PREFIX": "/conda", "VIRTUAL_ENV": "/other"}
    assert untied({**tied, "PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_real_pip_configuration_file_is_understood(tmp_path: Path) -> None:
    """Through pip itself: how it spells its listing is its own affair."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://me:pa'ss@mirror.example/simple\nextra-index-url =\n"
        "    https://one.example/simple\n    https://two.example/simple\n[install]\ntimeout = 7\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_TRUSTED_HOST": "mirror.example",
    }
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env=environment,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this environment has no pip")
    given = uv_variables(parse_pip_config(listed.stdout), {})
    assert given["UV_INDEX_URL"] == "https://me:pa'ss@mirror.example/simple"
    assert given["UV_EXTRA_INDEX_URL"] == "https://one.example/simple https://two.example/simple"
    assert (given["UV_HTTP_TIMEOUT"], given["UV_INSECURE_HOST"]) == ("7", "mirror.example")


# ---- the state of an environment -----------------------------------------------------------------


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment with one pinned package and our project; its Python is a real one."""
    folder = tmp_path / "an environment"
    program(folder / "bin" / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    site = folder / "lib" / "python3.11" / "site-packages"
    add(site, "Some_Package-2.0", "some/module.py", "some/data.txt")
    add(site, "easi_eval-0.1", "__editable__.easi_eval.pth")
    (tmp_path / "a checkout").mkdir()
    url = (tmp_path / "a checkout").as_uri()
    (site / "easi_eval-0.1.dist-info" / "direct_url.json").write_text(f'{{"url": "{url}"}}')
    return folder


def add(site: Path, name: str, *files: str) -> None:
    metadata = site / f"{name}.dist-info"
    metadata.mkdir(parents=True)
    for file in files:
        (site / file).parent.mkdir(exist_ok=True)
        (site / file).write_text("four")
    (metadata / "RECORD").write_text("".join(f"{file},sha256=0,4\n" for file in files))


WANTED = {"some-package": "2.0"}


def test_a_finished_environment_differs_in_nothing(venv: Path, tmp_path: Path) -> None:
    state = look(venv)
    assert state.includes and state.versions == {"some-package": "2.0", "easi-eval": "0.1"}
    assert differing(WANTED, state) == []
    assert origin(venv, "easi-eval") == tmp_path / "a checkout"
    (tmp_path / "a checkout").rmdir()
    assert origin(venv, "easi-eval") is None


def test_a_project_of_another_folder_or_of_an_older_pyproject_is_stale(
    venv: Path, tmp_path: Path
) -> None:
    root = tmp_path / "a checkout"
    site = venv / "lib" / "python3.11" / "site-packages"
    for name, folder in PROJECTS.items():
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "pyproject.toml").touch()
        metadata = site / f"{name.replace('-', '_')}-0.1.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "direct_url.json").write_text(f'{{"url": "{(root / folder).as_uri()}"}}')
    assert stale_projects(venv, root) == []
    os.utime(root / "lmms-eval" / "pyproject.toml", (2e9, 2e9))
    assert stale_projects(venv, root) == ["the pyproject.toml of easi-lmms-eval has changed"]
    assert len(stale_projects(venv, tmp_path)) == 3


def test_versions_are_compared_and_not_names(venv: Path) -> None:
    [there] = environments.metadata(venv, "Some_Package")
    there = there.rename(there.with_name("some_package-2.0+cu128.dist-info"))
    assert differing(WANTED, look(venv)) == []
    there.rename(there.with_name("some_package-3.0.dist-info"))
    assert differing(WANTED, look(venv)) == ["some-package 3.0 (pinned 2.0)"]
    assert differing({"other": "1"}, look(venv)) == ["other is missing"]


@pytest.mark.parametrize("damage", ["a file", "the end of a file", "RECORD", "a second version"])
def test_a_package_that_lacks_files_is_damaged(venv: Path, damage: str) -> None:
    site = venv / "lib" / "python3.11" / "site-packages"
    if damage == "a file":
        (site / "some" / "data.txt").unlink()
    elif damage == "the end of a file":
        (site / "some" / "data.txt").write_text("fou")
    elif damage == "RECORD":
        (site / "Some_Package-2.0.dist-info" / "RECORD").unlink()
    else:
        add(site, "some_package-1.0", "some/module.py")
    assert differing(WANTED, look(venv)) == ["some-package lacks files"]


def test_a_python_that_does_not_start_or_fit_is_none(venv: Path, tmp_path: Path) -> None:
    program(venv / "bin" / "python", "#!/bin/sh\nexit 1\n")
    assert look(venv).includes is None
    (venv / "bin" / "python").unlink()
    assert look(venv).includes is None
    assert look(tmp_path / "nowhere") == State()


# ---- flash-attn ----------------------------------------------------------------------------------

SERVER = flash_build.Machine(
    capabilities=((9, 0), (9, 0)),
    nvcc=(12, 8),
    compiler="/usr/bin/g++",
    torch_cuda=(12, 8),
    cpus=64,
    memory_gib=200,
)


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (SERVER, None),
        (replace(SERVER, nvcc=(12, 6)), None),
        (replace(SERVER, capabilities=()), "no CUDA GPU"),
        (replace(SERVER, capabilities=((7, 0),)), "8.0"),
        (replace(SERVER, nvcc=None), "nvcc"),
        (replace(SERVER, nvcc=(13, 0)), "nvcc is of CUDA 13.0, torch of CUDA 12.8"),
        (replace(SERVER, torch_cuda=None), "without CUDA"),
        (replace(SERVER, compiler=None), "g++"),
    ],
)
def test_where_flash_attn_is_tried(machine: flash_build.Machine, reason: str | None) -> None:
    said = flash_build.why_not(machine)
    assert said is None if reason is None else reason in (said or "")


def test_flash_attn_is_compiled_for_these_gpus_within_this_memory() -> None:
    variables = flash_build.build_variables(replace(SERVER, capabilities=((8, 6), (9, 0))))
    assert variables["FLASH_ATTN_CUDA_ARCHS"] == "80;90" and variables["MAX_JOBS"] == "40"
    assert flash_build.build_variables(replace(SERVER, memory_gib=2))["MAX_JOBS"] == "1"


def test_a_build_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    child = ["/bin/sh", "-c", "sleep 600 & echo $!; wait"]
    log = tmp_path / "build.log"
    reason = flash_build.build(child, os.environ, log, limit=4)
    assert reason and "minutes" in reason
    pid = int(log.read_text())
    deadline = time.monotonic() + 120
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


# ---- the locks and projects ----------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_line_of_a_lock_is_pinned_and_hashed_and_names_no_host(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert (
        "://" not in text
        and "--index" not in text
        and "--find-links" not in text
        and " @ " not in text
    )
    entries = [
        entry for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if not entry.startswith("#")
    ]
    assert entries
    for entry in entries:
        assert re.match(
            r"^[a-z0-9][a-z0-9.\-]*==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+$", entry
        ), entry


def test_the_locks_agree_and_hold_what_the_projects_pin() -> None:
    names = {"base", "bootstrap", "compiled", "test", "vllm", "flash-attn"}
    assert {lock.stem for lock in LOCKS} == names
    locked: dict[str, str] = {}
    for lock in LOCKS:
        for name, version in pins(lock).items():
            assert locked.setdefault(name, version) == version, f"{name} in {lock.name}"
    assert len(locked) == sum(len(pins(lock)) for lock in LOCKS)  # each package in one lock
    for folder in PROJECTS.values():
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
        for requirement in [
            *project["dependencies"],
            *itertools.chain.from_iterable(project.get("optional-dependencies", {}).values()),
        ]:
            name, _, version = requirement.partition("==")
            assert normal(name) in locked, requirement
            assert not version or locked[normal(name)] == version, requirement


def test_profile_5_holds_only_what_differs_from_the_base() -> None:
    base = pins(NEWER.with_name("base.lock"))
    newer = pins(NEWER)
    assert newer["transformers"].startswith("5.") and base["transformers"].startswith("4.")
    assert not newer.items() & base.items()


def test_the_projects_list_every_package_and_shadow_no_backend() -> None:
    main = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    source = ROOT / main["tool"]["setuptools"]["package-dir"][""]
    there = {
        ".".join(file.parent.relative_to(source).parts)
        for file in (source / "easi_eval").rglob("__init__.py")
    }
    assert set(main["tool"]["setuptools"]["packages"]) == there
    for folder, package in {"VLMEvalKit": "easi_vlmevalkit", "lmms-eval": "easi_lmms_eval"}.items():
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))
        assert project["tool"]["setuptools"]["packages"] == [package]


# ---- variables -----------------------------------------------------------------------------------


def variables_read(source: str) -> Iterator[str]:
    """Names read as ``environ.get("X")``, ``environ["X"]`` or ``os.getenv("X")``.

    The mapping may have any name (environ, env).
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="get" | "pop", value=mapping),
                args=[ast.Constant(value=str(name)), *_],
            ):
                if ast.unparse(mapping).rpartition(".")[2] in ("environ", "env"):
                    yield name
            case ast.Call(
                func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.Subscript(value=mapping, slice=ast.Constant(value=str(name))):
                if ast.unparse(mapping).rpartition(".")[2] == "environ":
                    yield name


def test_every_variable_we_read_is_in_the_example() -> None:
    folders = (SCRIPTS / "submissions", ROOT / "VLMEvalKit", ROOT / "lmms-eval")
    read = {
        name
        for folder in folders
        for file in folder.rglob("*.py")
        for name in variables_read(file.read_text("utf-8"))
    }
    read |= {"EASI_VENV", "EASI_PYTHON", "CUDA_HOME", "CUDA_PATH"}
    assert {"HF_TOKEN", "EASI_WORKER"} <= read  # the search finds something
    known = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]+", (ROOT / ".env.example").read_text("utf-8")))
    assert read - known == set()


# ---- the shell scripts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [*sorted(SCRIPTS.glob("*.sh")), ROOT / "tests" / "ci_packages.sh", ROOT / ".ci" / "run"],
    ids=lambda path: path.name,
)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["/bin/bash", "-n", str(script)], check=True)


def test_another_python_gets_one_line_on_how_to_get_one(tmp_path: Path) -> None:
    wrong = program(tmp_path / "python3.14", "#!/bin/sh\nexit 1\n")
    refused = bash(
        SCRIPTS / "setup.sh", PATH=os.environ["PATH"], HOME=str(tmp_path), EASI_PYTHON=str(wrong)
    )
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr == (
        f"error: EASI_PYTHON={wrong} is not a working Python 3.11 or 3.12\n"
        "hint: install one, or: uv python install 3.11 "
        "(EASI_PYTHON=download bash scripts/setup.sh does it)\n"
    )


def which_python(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The Python that setup.sh runs: a stand-in that prints its path, given ``scripts/setup``."""
    for name in ("env.sh", "setup.sh"):
        program(tmp_path / "scripts" / name, (SCRIPTS / name).read_text())
    return bash(tmp_path / "scripts" / "setup.sh", HOME=str(tmp_path), **environment)


def python(path: Path, fits: str) -> Path:
    """A stand-in for Python: ``fits`` is a shell pattern of the version checks it passes."""
    text = f'case "$*" in *sys.exit*) case "$*" in *"{fits}"*) exit 0;; *) exit 1;; esac;; esac'
    return program(path, f'#!/bin/sh\n{text}\necho "$0"\n')


def test_no_python_at_all_is_said(tmp_path: Path) -> None:
    found = which_python(tmp_path, PATH=str(tools(tmp_path)))
    assert found.returncode == 2
    assert found.stderr == (
        "error: no Python 3.11 or 3.12 here, and none (3.8 or newer) that could fetch one\n"
        "hint: apt install python3 python3-pip, then again\n"
    )


def test_one_that_fits_is_preferred_and_one_outside_the_active_conda(tmp_path: Path) -> None:
    old = python(tmp_path / "old" / "python3", "(3, 8) <=")
    conda = python(tmp_path / "conda" / "bin" / "python3", "(3, 11) <=")
    own = python(tmp_path / "own" / "python3.12", "(3, 11) <=")
    given = {
        "PATH": ":".join(map(str, (conda.parent, old.parent, own.parent, tools(tmp_path)))),
        "CONDA_PREFIX": str(tmp_path / "conda"),
    }
    for expected in (own, conda, old):
        assert which_python(tmp_path, **given).stdout.strip() == str(expected)
        expected.unlink()


def tools(tmp_path: Path) -> Path:
    """A folder with the few programs env.sh calls and no Python."""
    folder = tmp_path / "tools"
    folder.mkdir(exist_ok=True)
    for name in ("ls", "dirname"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"/bin/{name}")
    return folder


def toy_repository(tmp_path: Path, program_text: str) -> Path:
    """smoke.sh and test.sh beside a stand-in set-up.

    Its Python runs ``program_text`` (shell) instead of any program.
    """
    for name in ("env.sh", "smoke.sh", "test.sh"):
        program(tmp_path / "scripts" / name, (SCRIPTS / name).read_text())
    program(tmp_path / "scripts" / "setup.sh", 'echo "setup $*" >>"$EASI_VENV/calls"\n')
    program(tmp_path / "scripts" / "submissions" / "run_easi_eval.py", "")
    program(
        tmp_path / ".venv" / "bin" / "python",
        f'#!/bin/sh\necho "$*" | sed "s#{tmp_path}/##" >>"$EASI_VENV/calls"\n{program_text}\n',
    )
    return tmp_path


def called(root: Path) -> list[str]:
    return (root / ".venv" / "calls").read_text().splitlines()


SMOKE = "scripts/submissions/run_easi_eval.py --smoke"


def test_smoke_rehearses_both_backends_with_its_arguments(tmp_path: Path) -> None:
    root = toy_repository(tmp_path, "exit 0")
    assert (
        bash(root / "scripts" / "smoke.sh", "--output-dir", "a b", PATH="/usr/bin:/bin").returncode
        == 0
    )
    assert called(root) == [
        "setup --quiet",
        f"{SMOKE} --output-dir a b",
        f"{SMOKE} --backend lmms-eval --output-dir a b",
    ]


@pytest.mark.parametrize(
    ("first", "second", "code", "runs"),
    [(0, 1, 1, 2), (1, 0, 1, 2), (3, 1, 3, 2), (2, 0, 2, 1), (130, 0, 130, 1)],
)
def test_smoke_ends_with_the_first_code_that_is_not_zero(
    tmp_path: Path, first: int, second: int, code: int, runs: int
) -> None:
    root = toy_repository(
        tmp_path, f'case "$*" in *lmms-eval*) exit {second};; *) exit {first};; esac'
    )
    assert bash(root / "scripts" / "smoke.sh", PATH="/usr/bin:/bin").returncode == code
    assert len(called(root)) == 1 + runs


def test_smoke_with_a_backend_named_runs_that_one(tmp_path: Path) -> None:
    root = toy_repository(tmp_path, "exit 0")
    bash(root / "scripts" / "smoke.sh", "--backend", "vlmevalkit", PATH="/usr/bin:/bin")
    assert called(root)[1:] == [f"{SMOKE} --backend vlmevalkit"]


def test_tests_pass_their_arguments_on(tmp_path: Path) -> None:
    root = toy_repository(tmp_path, "exit 5")
    assert (
        bash(
            root / "scripts" / "test.sh", "--fast", "-k", "one or two", PATH="/usr/bin:/bin"
        ).returncode
        == 5
    )
    options = "-n 2 --max-worker-restart 0 -m not slow -k one or two"
    assert called(root) == ["setup --quiet --test", f"-m pytest {options}"]


@pytest.mark.parametrize(
    "closing",
    [
        "=== 2 failed, 31 passed, 1 skipped in 75.10s (0:01:15) ===",
        "==== 58 passed in 14.32s ====",
        "12 passed, 3 deselected in 0.31s",
        "=== no tests ran in 0.01s ===",
    ],
)
def test_continuous_integration_ends_with_pytests_line_and_its_code(
    tmp_path: Path, closing: str
) -> None:
    run = program(tmp_path / ".ci" / "run", (ROOT / ".ci" / "run").read_text())
    program(tmp_path / "tests" / "ci_packages.sh", "exit 0\n")
    program(
        tmp_path / "scripts" / "test.sh",
        f"cat; echo ci is $CI; echo '{closing}'; echo 'something after'; exit 4\n",
    )
    ended = bash(run, PATH="/usr/bin:/bin")
    assert ended.returncode == 4
    assert ended.stdout.splitlines() == ["ci is true", closing, "something after", closing]


def test_check_without_an_environment_says_how_to_make_one(tmp_path: Path) -> None:
    refused = bash(
        SCRIPTS / "setup.sh",
        "--check",
        PATH=os.environ["PATH"],
        HOME=str(tmp_path),
        EASI_PYTHON=sys.executable,
        EASI_VENV=str(tmp_path / "none"),
    )
    assert refused.returncode == 2
    assert (
        refused.stderr == f"error: the environment {tmp_path / 'none'} does not exist\n"
        "hint: bash scripts/setup.sh\n"
    )
    assert not (tmp_path / "none").exists()


def test_setup_refuses_a_folder_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.tex").touch()
    refused = bash(
        SCRIPTS / "setup.sh",
        PATH=os.environ["PATH"],
        HOME=str(tmp_path),
        EASI_PYTHON=sys.executable,
        EASI_VENV=str(tmp_path / "documents"),
    )
    assert refused.returncode == 2 and "no Python environment" in refused.stderr
    assert [entry.name for entry in (tmp_path / "documents").iterdir()] == ["thesis.tex"]


def another_clone(tmp_path: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    """What smoke.sh of this checkout does to an environment of another one."""
    return bash(
        SCRIPTS / "setup.sh",
        "--quiet",
        PATH=os.environ["PATH"],
        HOME=str(tmp_path),
        EASI_VENV=str(venv),
    )


def test_an_environment_of_another_clone_is_never_changed_unasked(
    venv: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    refused = another_clone(tmp_path, venv)
    assert refused.returncode == 2 and f"belongs to {tmp_path / 'a checkout'}" in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_an_environment_of_another_clone_with_the_same_versions_and_code_serves(
    venv: Path, tmp_path: Path
) -> None:
    site = venv / "lib" / "python3.11" / "site-packages"
    for lock in LOCKS:
        for name, version in pins(lock).items():
            add(site, f"{name.replace('-', '_')}-{version}")
    assert "profile5 is missing" in another_clone(tmp_path, venv).stderr
    newer = venv / "profile5"
    shutil.copytree(venv / "bin", newer / "bin", symlinks=True)
    (newer / site.relative_to(venv)).mkdir(parents=True)
    for name, version in pins(NEWER).items():
        add(newer / site.relative_to(venv), f"{name.replace('-', '_')}-{version}")
    assert "another code" in another_clone(tmp_path, venv).stderr
    for folder in ("scripts/submissions", "VLMEvalKit", "lmms-eval"):
        there = tmp_path / "a checkout" / folder
        there.parent.mkdir(exist_ok=True)
        there.symlink_to(ROOT / folder)
    served = another_clone(tmp_path, venv)
    assert (served.returncode, served.stdout, served.stderr) == (0, "", "")


def test_an_unknown_option_of_setup_is_an_error(tmp_path: Path) -> None:
    refused = bash(
        SCRIPTS / "setup.sh",
        "--vlm",
        PATH=os.environ["PATH"],
        HOME=str(tmp_path),
        EASI_PYTHON=sys.executable,
    )
    assert refused.returncode == 2 and "--vlm" in refused.stderr
