"""The options of a run and of a submission: checked once, frozen, and printable as the command line that makes them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .backends.kinds import KINDS, Kind
from .errors import EasiError
from .judging import DEFAULT_THRESHOLD
from .nearest import did_you_mean, nearest
from .redact import secret_argument

if TYPE_CHECKING:
    from .benchmarks import Benchmark

MODEL_TYPES = ("pretrained", "finetuned", "instruction", "rl")
PRECISIONS = ("bfloat16", "float16", "float32", "int8")
WEIGHT_TYPES = ("Original", "Delta", "Adapter")
REQUIRED_FIELDS = ("modelName", "modelType", "precision")
DEVICES = ("cuda", "cpu", "mps")
LONGEST_REMARKS = 4_000  # characters that a user may write; the notes of the scores come on top
LARGEST_METADATA = 1 << 20
VSI_INPUTS = ("video", "frames")


@dataclass(frozen=True)
class SubmissionConfig:
    """The guide's ``--submission-configs`` fields, by their names there. Raises EasiError where its field rules are broken."""

    modelName: str
    modelType: str
    precision: str
    revision: str = "main"
    weightType: str = "Original"
    baseModel: str = ""
    remarks: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str):
                raise EasiError(
                    f"--submission-configs: {field.name} is {json.dumps(value)}, not a text",
                    hint='write it in quotes: "..."',
                )
            if re.search("[\ud800-\udfff]", value):
                raise EasiError(
                    f"--submission-configs: {field.name} holds half a character ({json.dumps(value)})",
                    hint="write it in UTF-8",
                )
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.modelName, re.ASCII):
            raise EasiError(
                f"--submission-configs: modelName is {self.modelName!r}, not a Hugging Face model id",
                hint="write org/model, for example Qwen/Qwen2.5-VL-7B-Instruct",
            )
        _one_of("modelType", self.modelType, MODEL_TYPES)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("weightType", self.weightType, WEIGHT_TYPES)
        if not self.revision.strip():
            raise EasiError(
                "--submission-configs: revision is empty", hint='leave it out for "main"'
            )
        if len(self.remarks) > LONGEST_REMARKS:
            raise EasiError(
                f"--submission-configs: remarks has {len(self.remarks):,} characters",
                hint=f"write {LONGEST_REMARKS:,} at most",
            )
        if self.weightType != "Original" and not self.baseModel.strip():
            raise EasiError(
                f"--submission-configs: baseModel is missing, and weightType {self.weightType} needs it",
                hint="name the model that the weights are added to, as org/model",
            )

    @classmethod
    def from_option(cls, value: str) -> SubmissionConfig:
        """Read the option's value: JSON, or ``@`` and the name of a file that holds it. Raises EasiError as ``from_json`` does."""
        if not value.startswith("@"):
            return cls.from_json(value)
        path = Path(value[1:]).expanduser()
        try:
            if path.stat().st_size > LARGEST_METADATA:
                raise EasiError(
                    f"--submission-configs: {path} has {path.stat().st_size:,} bytes",
                    hint="it is to hold one JSON object with the metadata",
                )
            return cls.from_json(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise EasiError(
                f"--submission-configs: {path} cannot be read: {getattr(error, 'strerror', None) or error}",
                hint="write @ and the path of a JSON file in UTF-8",
            ) from error

    @classmethod
    def from_json(cls, text: str) -> SubmissionConfig:
        """Read the metadata. Raises EasiError for bad JSON and for unknown, doubled and missing fields."""
        names = [field.name for field in fields(cls)]
        try:
            given = json.loads(text, object_pairs_hook=_no_doubles)
        except json.JSONDecodeError as error:
            raise EasiError(
                f"--submission-configs is not JSON: {error}", hint=_json_hint(text)
            ) from error
        if not isinstance(given, dict):
            raise EasiError(
                "--submission-configs is not a JSON object", hint='write {"modelName": ..., ...}'
            )
        for name in given:
            if name not in names:
                raise EasiError(
                    f"--submission-configs: unknown field {name!r}",
                    hint=did_you_mean(name, names, f"the fields are {', '.join(names)}", n=1),
                )
        missing = [name for name in REQUIRED_FIELDS if name not in given]
        if missing:
            raise EasiError(
                f"--submission-configs: {' and '.join(missing)} missing",
                hint=f"modelType is one of {', '.join(MODEL_TYPES)}; precision one of {', '.join(PRECISIONS)}",
            )
        return cls(**given)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True)
class RunConfig:
    """One run, as asked for. Raises EasiError for values and combinations that can be refused without looking at the machine.

    ``benchmarks`` are registry keys in registry order; empty means the EASI-8 keys, plus the four others with
    ``include_extra``. A non-empty one is the whole selection (``include_extra`` is then False), so that
    ``replace(cfg, benchmarks=failed)`` retries these and no others.
    ``model`` may be empty under ``smoke``, which brings its own.
    """

    model: str = ""
    backend: str = "vlmevalkit"
    model_args: str = ""
    nproc: int = 1
    benchmarks: tuple[str, ...] = ()
    include_extra: bool = False
    judge: str | None = None
    vsi_input: str | None = None  # None: what the backend gives the model's class
    extraction_threshold: float = DEFAULT_THRESHOLD  # 0-1, of the answers of one benchmark
    output_dir: Path = Path("eval_results")
    dataset_dir: Path = Path("datasets")
    submit: bool = False
    resubmit: bool = False
    submission: SubmissionConfig | None = None
    model_name_differs: bool = False  # modelName and revision need not be what was evaluated
    rerun: bool = False
    no_accelerate: bool = False
    verbose: bool = False
    no_rich: bool = False
    smoke: bool = False
    dry_run: bool = False
    import_results: Path | None = None
    as_model: str = ""
    limit: int | None = None
    plain: bool = False
    device: str | None = None  # None: the GPUs if there are any
    trust_remote_code: bool = False
    no_corrections: bool = False
    backend_path: Path | None = None
    backend_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kind = self.kind
        object.__setattr__(self, "model", _without_address(self.model))
        object.__setattr__(self, "model_args", _without_addresses(self.model_args))
        self._check_import()
        self._check_model(kind)
        for name, value in (("--nproc", self.nproc), ("--limit", self.limit)):
            if value is not None and value < 1:
                raise EasiError(f"{name} is {value}", hint="use 1 or more")
        if self.no_accelerate and self.nproc > 1 and kind.takes_no_accelerate:
            raise EasiError(
                f"--no-accelerate with --nproc {self.nproc}: it is one process, which sees all visible GPUs",
                hint="leave out --nproc, or --no-accelerate",
            )
        if self.judge is not None and not self.judge.strip():
            raise EasiError("--judge is empty", hint="name a judge, or leave the option out")
        if not 0 <= self.extraction_threshold <= 1:
            raise EasiError(
                f"--extraction-threshold is {self.extraction_threshold}",
                hint="write a fraction of the answers, 0.025, or 2.5%",
            )
        if (
            self.judge is not None
            and self.extraction_threshold != DEFAULT_THRESHOLD
            and kind.takes_judge
        ):
            raise EasiError(
                f"--extraction-threshold with --judge {self.judge}: it decides only where no judge is named",
                hint="leave out one of them",
            )
        if self.vsi_input is not None and self.vsi_input not in VSI_INPUTS:
            raise EasiError(
                f"--vsi-input is {self.vsi_input!r}", hint=f"use one of {', '.join(VSI_INPUTS)}"
            )
        if self.device is not None and self.device not in DEVICES:
            which = (
                "choose GPUs with CUDA_VISIBLE_DEVICES"
                if self.device.startswith("cuda:")
                else f"use one of {', '.join(DEVICES)}"
            )
            raise EasiError(f"--device is {self.device!r}", hint=which)
        self._check_secrets()
        self._check_submit()
        if self.benchmarks:
            from .benchmarks import (
                parse_keys,  # reads the registry, which --help and --version never need
            )

            keys = parse_keys(",".join(self.benchmarks))
            object.__setattr__(self, "benchmarks", keys)
            object.__setattr__(self, "include_extra", False)

    def _check_import(self) -> None:
        """Importing evaluates nothing: what says how to evaluate has no place beside it."""
        if self.import_results is None:
            if self.as_model:
                raise EasiError(
                    "--as-model without --import-results",
                    hint="name a model to evaluate with --model",
                )
            return
        if self.as_model and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.as_model):
            raise EasiError(f"--as-model is {self.as_model!r}", hint="write org/model")
        given = {
            "--model": self.model,
            "--model-args": self.model_args,
            "--limit": self.limit,
            "--smoke": self.smoke,
            "--plain": self.plain,
            "--rerun": self.rerun,
            "arguments after --": self.backend_args,
        }
        if name := next((name for name, value in given.items() if value), None):
            otherwise = (
                "name the model of the results with --as-model"
                if name == "--model"
                else f"leave out {name}"
            )
            raise EasiError(
                f"--import-results with {name}: it takes over finished results and evaluates nothing",
                hint=otherwise,
            )

    def _check_model(self, kind: Kind) -> None:
        if self.import_results is not None:
            return
        own_model = self.smoke and not self.model
        if not self.model.strip() and not own_model:
            raise EasiError("--model is missing", hint=_model_hint(kind))
        if own_model and self.model_args:
            raise EasiError(
                "--model-args without --model", hint="name the model too, or leave both to --smoke"
            )
        if kind.needs_model_args and not self.model_args.strip() and not own_model:
            raise EasiError(f"--backend {kind.name} needs --model-args", hint=_model_hint(kind))
        parse_model_args(self.model_args)

    def _check_secrets(self) -> None:
        """Arguments are recorded, shown and shared with the results: nothing secret may be among them."""
        arguments = [f"{name}={value}" for name, value in self.model_arguments.items()]
        for where, words in (
            ("--model-args", arguments),
            ("the arguments after --", self.backend_args),
        ):
            if name := secret_argument(words):
                raise EasiError(
                    f"{where} hold a secret ({name}), and commands are recorded and shared with the results",
                    hint="leave it out, and set HF_TOKEN or OPENAI_API_KEY in the environment or in .env instead",
                )

    def _check_submit(self) -> None:
        if self.model_name_differs and self.submission is None:
            raise EasiError(
                "--model-name-differs without --submission-configs",
                hint="it is about modelName and revision there; leave it out",
            )
        if not self.submit:
            if self.resubmit:
                raise EasiError(
                    "--resubmit without --submit", hint="add --submit, or leave out --resubmit"
                )
            return
        for name, given in (("--limit", self.limit is not None), ("--smoke", self.smoke)):
            if given:
                raise EasiError(
                    f"--submit with {name}: such results are never sent",
                    hint=f"leave out --submit or {name}",
                )
        if self.submission is None:
            raise EasiError(
                "--submit needs --submission-configs",
                hint="""for example '{"modelName": "org/model", "modelType": "instruction", "precision": "bfloat16"}'""",
            )

    @property
    def kind(self) -> Kind:
        """The backend's constants. Raises EasiError for a backend that does not exist."""
        if self.backend not in KINDS:
            raise EasiError(
                f"--backend is {self.backend!r}",
                hint=did_you_mean(self.backend, KINDS, f"use one of {', '.join(KINDS)}", n=1),
            )
        return KINDS[self.backend]

    @property
    def selected(self) -> tuple[Benchmark, ...]:
        """The benchmarks to run, in registry order."""
        from .benchmarks import ALL_KEYS, CORE_KEYS, by_key

        return tuple(
            by_key(key)
            for key in self.benchmarks or (ALL_KEYS if self.include_extra else CORE_KEYS)
        )

    @property
    def model_arguments(self) -> dict[str, str]:
        return parse_model_args(self.model_args)

    @property
    def device_kind(self) -> str:
        return self.device or "cuda"

    @property
    def ignored(self) -> tuple[str, ...]:
        """Options that were given and that this backend does not use, one line each, to be said once."""
        kind, default = self.kind, RunConfig(smoke=True)
        given = (
            ("--judge", kind.takes_judge, self.judge is not None),
            (
                "--extraction-threshold",
                kind.takes_judge,
                self.extraction_threshold != default.extraction_threshold,
            ),
            ("--vsi-input", kind.takes_vsi_input, self.vsi_input is not None),
            ("--no-accelerate", kind.takes_no_accelerate, self.no_accelerate),
            ("--no-corrections", kind.takes_no_corrections, self.no_corrections),
            (
                "--dataset-dir",
                kind.takes_dataset_dir,
                self.dataset_dir != default.dataset_dir and not self.smoke,
            ),
        )  # --smoke has its own
        return tuple(
            f"{name} has no effect with --backend {kind.name}"
            for name, takes, is_given in given
            if is_given and not takes
        )

    def to_argv(self) -> list[str]:
        """Arguments that parse back to an equal config; what is at its default is left out."""
        default = RunConfig(smoke=True)
        argv: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "backend_args" or value == (
                False if field.name == "smoke" else getattr(default, field.name)
            ):
                continue
            if field.name == "submission":
                argv += ["--submission-configs", value.to_json()]
            elif value is True:
                argv.append(_option(field.name))
            else:
                text = ",".join(value) if field.name == "benchmarks" else str(value)
                # "--model -x" would read as two options
                argv += (
                    [f"{_option(field.name)}={text}"]
                    if text.startswith("-")
                    else [_option(field.name), text]
                )
        return argv + (["--", *self.backend_args] if self.backend_args else [])

    def command_words(self) -> list[str]:
        """The whole command line, for the shell that this program was started from."""
        return [*_program(), *self.to_argv()]

    def command(self) -> str:
        """The same, ready to paste."""
        return shlex.join(self.command_words())


def parse_model_args(text: str) -> dict[str, str]:
    """``a=b,c={"x":1,"y":2}`` as {"a": "b", "c": '{"x":1,"y":2}'}: values stay the texts they are.

    Commas inside braces, brackets, parentheses and quotes belong to the value, as do further ``=``; a trailing comma is
    no error (lmms-eval's own parser takes it too). Raises EasiError for a part without ``=``, an empty or doubled key and
    a bracket or quote that is never closed.
    """
    hint = "write key=value,key=value, for example pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=sdpa"
    arguments: dict[str, str] = {}
    for part in _split_commas(text):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise EasiError(f"--model-args: {part.strip()!r} has no '='", hint=hint)
        if not key:
            raise EasiError(f"--model-args: {part.strip()!r} has no name before '='", hint=hint)
        if key in arguments:
            raise EasiError(f"--model-args: {key} is given twice", hint="keep one of them")
        arguments[key] = value.strip()
    return arguments


def format_model_args(arguments: Mapping[str, str]) -> str:
    """The inverse of ``parse_model_args``; a value that commas would part is put in quotes."""
    return ",".join(f"{key}={_quoted(value)}" for key, value in arguments.items())


def unquoted(value: str) -> str:
    """A value without the quotes around it: a path with commas is written in quotes."""
    return value[1:-1] if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0] else value


def _quoted(value: str) -> str:
    try:
        if len(_split_commas(value)) < 2:
            return value
    except EasiError:  # a quote or bracket that is never closed is a letter like others in a path
        pass
    quote = '"' if "'" in value else "'"
    return f"{quote}{value}{quote}"


def _split_commas(text: str) -> list[str]:
    """Cut at the commas that stand outside brackets and quotes."""
    closing = {"{": "}", "[": "]", "(": ")"}
    parts, start, awaited, quote, before = [], 0, [], "", "="
    for at, char in enumerate(text):
        if quote:
            if char == quote and text[at - 1] != "\\":
                quote = ""
        elif char in "\"'" and before in "=,:{[(":  # elsewhere it is an apostrophe
            quote = char
        elif char in closing:
            awaited.append(closing[char])
        elif awaited and char == awaited[-1]:
            awaited.pop()
        elif char == "," and not awaited:
            parts.append(text[start:at])
            start = at + 1
        if not char.isspace():
            before = char
    if quote or awaited:
        raise EasiError(
            f"--model-args: {quote or awaited[-1]} missing at the end of {text[start:]!r}",
            hint="close it, and put the whole value in single quotes so that the shell leaves it alone",
        )
    return [*parts, text[start:]]


# Keys of --model-args whose value may be copied from the hub's page of a model.
_CHECKPOINTS = ("pretrained", "model_path", "peft")
_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/([\w.-]+/[\w.-]+?)(?:/(?:tree|blob|resolve)/([^/?#]+))?/?(?:[?#].*)?$"
)


def _without_address(model: str) -> str:
    """The id in the address of a model's page on the hub; anything else as it is. Raises EasiError for a page of one revision."""
    found = _PAGE.match(model.strip())
    if found is None:
        return model
    name, revision = found.groups()
    if revision not in (None, "main"):
        raise EasiError(
            f"{model} is the page of one revision",
            hint=f"write {name}, and --model-args revision={revision}",
        )
    return name


def _without_addresses(text: str) -> str:
    if "://" not in text:
        return text
    given = parse_model_args(text)
    plain = {
        key: _without_address(value) if key in _CHECKPOINTS else value
        for key, value in given.items()
    }
    return text if plain == given else format_model_args(plain)


def _no_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    given = dict(pairs)
    if len(given) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise EasiError(f"--submission-configs: {doubled} is given twice", hint="keep one of them")
    return given


def _json_hint(text: str) -> str:
    if text.strip().endswith(".json") or ("{" not in text and Path(text).expanduser().is_file()):
        return f"to name a file write @ before it: --submission-configs @{text.strip()}"
    if comma := re.search(r",\s*[}\]]", text):
        return f"remove the comma before the closing {comma[0][-1]}"
    return """put it in single quotes: '{"modelName": "org/model", "modelType": "instruction", "precision": "bfloat16"}'"""


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        found = nearest(value, allowed, n=1)
        raise EasiError(
            f"--submission-configs: {name} is {value!r}",
            hint=f"did you mean {found[0]}?" if found else f"use one of {', '.join(allowed)}",
        )


def _model_hint(kind: Kind) -> str:
    example = (
        "--model qwen3_vl --model-args pretrained=Qwen/Qwen3-VL-8B-Instruct"
        if kind.needs_model_args
        else "--model Qwen/Qwen2.5-VL-7B-Instruct"
    )
    return f"for example {example}; --smoke runs the tiny model that comes with this program"


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _program() -> tuple[str, ...]:
    started = Path(sys.argv[0])
    if started.name != "run_easi_eval.py":
        return ("easi-eval",)
    on_path = shutil.which("python")
    same = on_path is not None and Path(on_path).absolute() == Path(sys.executable).absolute()
    return ("python" if same else sys.executable, str(started))
