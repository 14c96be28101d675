"""The options of a run and of a submission.

Both are validated once, immutable, and can be printed as the command line that produces them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .core.backend_facts import BACKEND_FACTS, BackendFacts
from .core.errors import EasiError
from .core.model_args import format_model_args, parse_model_args
from .core.redact import secret_argument
from .core.server_urls import server_urls
from .core.suggest import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .benchmarks import Benchmark

MODEL_TYPES = ("pretrained", "finetuned", "instruction", "rl")
PRECISIONS = ("bfloat16", "float16", "float32", "int8")
WEIGHT_TYPES = ("Original", "Delta", "Adapter")
REQUIRED_FIELDS = ("modelName", "modelType", "precision")
DEVICES = ("cuda", "cpu", "mps")
# Characters of the user's own remarks; the notes about the scores are added to them.
LONGEST_REMARKS = 4_000
LARGEST_METADATA = 1 << 20  # bytes of the file after @
VSI_INPUTS = ("video", "frames")
TINY_MODEL = "easi-smoke/Tiny-VLM"  # the model of ``--smoke``
RULES = "exact_matching"  # the value of ``--judge`` for the backend's rules
DEFAULT_THRESHOLD = 0.025  # share of answers that the rules may fail to read


@dataclass(frozen=True)
class SubmissionConfig:
    """The fields of ``--submission-configs``, under the names of the leaderboard's guide.

    Raises EasiError if a value breaks the guide's rules for its field.
    """

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
                    f"--submission-configs: {field.name} holds an incomplete Unicode character "
                    f"({json.dumps(value)})",
                    hint="write it in UTF-8",
                )
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.modelName, re.ASCII):
            raise EasiError(
                f"--submission-configs: modelName is {self.modelName!r}, "
                "not a Hugging Face model id",
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
                "--submission-configs: baseModel is missing, "
                f"and weightType {self.weightType} needs it",
                hint="name the model that the weights are added to, as org/model",
            )

    @classmethod
    def from_option(cls, value: str) -> SubmissionConfig:
        """Read the option's value: JSON, or ``@`` and the name of a JSON file.

        Raises:
            EasiError: The file cannot be read, or for the reasons of ``from_json``.
        """
        if not value.startswith("@"):
            return cls.from_json(value)
        path = Path(value[1:]).expanduser()
        try:
            if path.stat().st_size > LARGEST_METADATA:
                raise EasiError(
                    f"--submission-configs: {path} has {path.stat().st_size:,} bytes",
                    hint="it must hold one JSON object with the metadata",
                )
            return cls.from_json(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise EasiError(
                f"--submission-configs: {path} cannot be read: "
                f"{getattr(error, 'strerror', None) or error}",
                hint="write @ and the path of a JSON file in UTF-8",
            ) from error

    @classmethod
    def from_json(cls, text: str) -> SubmissionConfig:
        """Read the metadata from a JSON object.

        Raises:
            EasiError: The text is not a JSON object, or a field is unknown, repeated or missing.
        """
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
                f"--submission-configs: {', '.join(missing)} missing",
                hint=f"modelType is one of {', '.join(MODEL_TYPES)}; "
                f"precision one of {', '.join(PRECISIONS)}",
            )
        return cls(**given)

    def to_json(self) -> str:
        """Return all fields as one line of JSON, which ``from_json`` reads back."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True)
class RunConfig:
    """One run as requested on the command line.

    Raises EasiError for values and combinations that are wrong whatever machine they run on.

    Attributes:
        model: May be empty under ``smoke``, which has its own model. With ``base_url`` the name
            that the servers have for it.
        base_url: Addresses of OpenAI-compatible servers, with commas; see ``servers``.
        benchmarks: Registry keys in registry order. Empty means the EASI-8 keys, plus the others
            with ``include_extra``. A non-empty tuple is the whole selection (``include_extra`` is
            then False), so ``replace(cfg, benchmarks=failed)`` retries these and no others.
        vsi_input: ``video`` or ``frames``; None leaves it to the backend's default for the model
            class.
        extraction_threshold: Share of unreadable answers of one benchmark, 0-1.
        model_name_differs: modelName and revision may differ from what was evaluated.
        device: None means the GPUs if there are any.
        nodes: Most machines that answer.
        slurm: Options of sbatch for an array job with one task per machine, or ``@`` and a script.
    """

    model: str = ""
    backend: str = "vlmevalkit"
    model_args: str = ""
    base_url: str = ""
    nproc: int = 1
    benchmarks: tuple[str, ...] = ()
    include_extra: bool = False
    judge: str | None = None
    vsi_input: str | None = None
    extraction_threshold: float = DEFAULT_THRESHOLD
    output_dir: Path = Path("eval_results")
    dataset_dir: Path = Path("datasets")
    submit: bool = False
    resubmit: bool = False
    submission: SubmissionConfig | None = None
    model_name_differs: bool = False
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
    device: str | None = None
    trust_remote_code: bool = False
    no_corrections: bool = False
    backend_path: Path | None = None
    nodes: int = 1
    slurm: str = ""
    backend_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kind = self.kind
        object.__setattr__(self, "model", _without_address(self.model))
        object.__setattr__(self, "model_args", _without_addresses(self.model_args))
        self._check_import()
        self._check_model(kind)
        self._check_served()
        for name, value in (
            ("--nproc", self.nproc),
            ("--limit", self.limit),
            ("--nodes", self.nodes),
        ):
            if value is not None and value < 1:
                raise EasiError(f"{name} is {value}", hint="use 1 or more")
        if self.no_accelerate and self.nproc > 1 and kind.takes_no_accelerate:
            raise EasiError(
                f"--no-accelerate with --nproc {self.nproc}: --no-accelerate is one process that "
                f"sees all visible GPUs",
                hint="leave out --nproc, or --no-accelerate",
            )
        if (self.nodes > 1 or self.slurm) and (self.plain or self.base_url or self.no_accelerate):
            given = (
                "--plain" if self.plain else "--base-url" if self.base_url else "--no-accelerate"
            )
            raise EasiError(
                f"{'--slurm' if self.slurm else '--nodes'} with {given}: only this program's own "
                "workers share questions between machines",
                hint="leave out one of them",
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
                f"--extraction-threshold with --judge {self.judge}: "
                "it has an effect only without --judge",
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
            # The import reads the registry, which --help and --version never need.
            from .benchmarks import parse_keys

            keys = parse_keys(",".join(self.benchmarks))
            object.__setattr__(self, "benchmarks", keys)
            object.__setattr__(self, "include_extra", False)

    def _check_import(self) -> None:
        """Refuse options that say how to evaluate: an import evaluates nothing."""
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
            "--base-url": self.base_url,
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
                f"--import-results with {name}: it imports finished results and evaluates nothing",
                hint=otherwise,
            )

    def _check_model(self, kind: BackendFacts) -> None:
        if self.import_results is not None:
            return
        own_model = self.smoke and not self.model and not self.base_url
        if not self.model.strip() and not own_model:
            hint = "name the model as the server calls it" if self.base_url else _model_hint(kind)
            raise EasiError("--model is missing", hint=hint)
        if own_model and self.model_args:
            raise EasiError(
                "--model-args without --model", hint="name the model too, or leave both to --smoke"
            )
        own_args = own_model or bool(self.base_url)
        if kind.needs_model_args and not self.model_args.strip() and not own_args:
            raise EasiError(f"--backend {kind.name} needs --model-args", hint=_model_hint(kind))
        parse_model_args(self.model_args)

    def _check_served(self) -> None:
        """Normalise the servers' addresses, and refuse options that do not go with them."""
        if not self.base_url:
            return
        object.__setattr__(self, "base_url", ",".join(server_urls(self.base_url)))
        shown = self.vsi_input is not None and self.kind.takes_vsi_input
        for name, given, why in (
            ("--plain", self.plain, "the backend's own launch does not support it"),
            ("--vsi-input", shown, "servers are always sent a video's frames"),
        ):
            if given:
                raise EasiError(f"{name} with --base-url: {why}", hint=f"leave out {name}")

    def _check_secrets(self) -> None:
        """Refuse secrets in arguments, which are recorded, shown and shared with the results."""
        arguments = [f"{name}={value}" for name, value in self.model_arguments.items()]
        for where, words in (
            ("--model-args", arguments),
            ("the arguments after --", self.backend_args),
        ):
            if name := secret_argument(words):
                raise EasiError(
                    f"{where} hold a secret ({name}), and commands are "
                    "recorded and shared with the results",
                    hint="leave it out, and set HF_TOKEN or OPENAI_API_KEY in "
                    "the environment or in .env instead",
                )

    def _check_submit(self) -> None:
        if self.model_name_differs and self.submission is None:
            raise EasiError(
                "--model-name-differs without --submission-configs",
                hint="leave it out, or add --submission-configs with modelName and revision",
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
                    f"--submit with {name}: such results cannot be submitted",
                    hint=f"leave out --submit or {name}",
                )
        if self.submission is None:
            raise EasiError(
                "--submit needs --submission-configs",
                hint="""for example '{"modelName": "org/model", "modelType":"""
                """ "instruction", "precision": "bfloat16"}'""",
            )

    @property
    def kind(self) -> BackendFacts:
        """The backend's constants.

        Raises:
            EasiError: There is no such backend.
        """
        if self.backend not in BACKEND_FACTS:
            raise EasiError(
                f"--backend is {self.backend!r}",
                hint=did_you_mean(
                    self.backend, BACKEND_FACTS, f"use one of {', '.join(BACKEND_FACTS)}", n=1
                ),
            )
        return BACKEND_FACTS[self.backend]

    def is_rehearsed(self, checkpoint: str) -> bool:
        """Return whether a checkpoint is on the hub of ``--smoke``, which no plan can ask."""
        return self.smoke and checkpoint == TINY_MODEL

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
        """``model_args`` as a dictionary; see ``parse_model_args``."""
        return parse_model_args(self.model_args)

    @property
    def servers(self) -> tuple[str, ...]:
        """The base URLs of the servers that answer; none if the model runs here."""
        return server_urls(self.base_url) if self.base_url else ()

    @property
    def device_kind(self) -> str:
        """The device, ``cuda`` if none was given."""
        return self.device or "cuda"

    @property
    def ignored(self) -> tuple[str, ...]:
        """One line for each option that was given and has no effect with this backend."""
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
                # --smoke has a dataset folder of its own.
                self.dataset_dir != default.dataset_dir and not self.smoke,
            ),
        )
        of_this_machine = (
            # --smoke sets the device where there is no GPU.
            ("--device", self.device is not None and not self.smoke),
            ("--trust-remote-code", self.trust_remote_code),
        )
        return (
            *(
                f"{name} has no effect with --backend {kind.name}"
                for name, takes, is_given in given
                if is_given and not takes
            ),
            *(
                f"{name} has no effect with --base-url"
                for name, is_given in of_this_machine
                if is_given and self.base_url
            ),
        )

    def to_argv(self) -> list[str]:
        """Return arguments that parse back to an equal config, without those at their default."""
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
                text = _names(value) if field.name == "benchmarks" else str(value)
                # argparse would read "--model -x" as two options.
                argv += (
                    [f"{_option(field.name)}={text}"]
                    if text.startswith("-")
                    else [_option(field.name), text]
                )
        return argv + (["--", *self.backend_args] if self.backend_args else [])

    def command_words(self) -> list[str]:
        """Return the whole command line, for the shell that this program was started from."""
        return [*program(), *self.to_argv()]

    def command(self) -> str:
        """Return the command line as one string, quoted for the shell."""
        return shlex.join(self.command_words())


# Keys of --model-args whose value may be the URL of a model's page on the hub.
_CHECKPOINTS = ("pretrained", "model_path", "peft")
_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/([\w.-]+/[\w.-]+?)"
    r"(?:/(?:tree|blob|resolve)/([^/?#]+))?/?(?:[?#].*)?$"
)


def _without_address(model: str) -> str:
    """Return the model id from the URL of its page on the hub; other texts are unchanged.

    Raises:
        EasiError: The page is that of one revision, which belongs into ``--model-args``.
    """
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
    return (
        """put it in single quotes: '{"modelName": "org/model", "modelType":"""
        """ "instruction", "precision": "bfloat16"}'"""
    )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        found = nearest(value, allowed, n=1)
        raise EasiError(
            f"--submission-configs: {name} is {value!r}",
            hint=f"did you mean {found[0]}?" if found else f"use one of {', '.join(allowed)}",
        )


def _model_hint(kind: BackendFacts) -> str:
    example = (
        "--model qwen3_vl --model-args pretrained=Qwen/Qwen3-VL-8B-Instruct"
        if kind.needs_model_args
        else "--model Qwen/Qwen2.5-VL-7B-Instruct"
    )
    return f"for example {example}; --smoke runs the tiny model that comes with this program"


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _names(keys: Iterable[str]) -> str:
    """Return benchmarks as a value of ``--benchmarks``."""
    from .benchmarks import by_key

    return ",".join(by_key(key).name for key in keys)


def program() -> tuple[str, ...]:
    """Return the words that start this program, as it was started."""
    started = Path(sys.argv[0])
    if started.name != "run_easi_eval.py":
        return ("easi-eval",)
    on_path = shutil.which("python")
    same = on_path is not None and Path(on_path).absolute() == Path(sys.executable).absolute()
    return ("python" if same else sys.executable, str(started))


def score_points(text: str) -> float:
    """Parse ``--max-drop``: points of a score, 0-100.

    Raises:
        EasiError: The value is not a number, or not between 0 and 100.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:  # -1 for a text that is not a number
        raise EasiError(
            f"--max-drop is {text}", hint="give the points that B may be worse, from 0 to 100"
        )
    return value


def threshold(text: str) -> float:
    """Parse ``--extraction-threshold``: a fraction (0.025) or a percentage (2.5%).

    Raises:
        EasiError: The value is not a number, or not between 0 and 1.
    """
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        value = -1.0
    if rest or not 0 <= value <= 1:  # -1 for a text that is not a number
        raise EasiError(
            f"--extraction-threshold is {text!r}",
            hint="write a fraction of the answers, 0.025, or 2.5%",
        )
    return value
