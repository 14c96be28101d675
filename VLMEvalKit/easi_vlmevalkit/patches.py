"""Everything that is replaced in the imported packages, with the reason beside each name.

First what every process needs, then what some need, then VLMEvalKit's own command line. Nothing of
a package is changed on disk. What a replacement does stands in ``attention``, ``judge``,
``lossless_xlsx``, ``media_names`` and ``run_functions``, where it takes more than a few lines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
import logging
import os
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from easi_eval.backends.shared import catalog
from easi_eval.backends.vlmevalkit import own_classes
from easi_eval.backends.vlmevalkit.judge_endpoint import endpoint
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.processes import gpus
from easi_eval.engine.vlm.newer_configs import read_newer_configs
from easi_eval.scores.judging import BY_RULES

from . import attention, judge, lossless_xlsx, media_names, models, own_models, run_functions
from .judge_replies import ReplyCache
from .outcomes import Outcomes


def apply() -> None:
    """Apply the patches that every process over VLMEvalKit needs, whatever its role."""
    miss_no_env_file()
    read_newer_configs()
    accept_tables()
    use_the_hub_cache()
    replace_missing_flash_attention()
    take_media_types_from_content()
    save_pictures_whole()
    for line in add_own_folder():
        print(line, flush=True)


def miss_no_env_file() -> None:
    """``vlmeval.load_env``: it reports no error where there is no ``.env`` in site-packages.

    VLMEvalKit looks for that file beside its package, while it is imported. Here keys come from the
    environment.
    """
    logging.getLogger().addFilter(lambda record: record.funcName != "load_env")


def accept_tables() -> None:
    """``DATASET_MD5`` of the dataset classes: a dataset accepts the table it finds on disk.

    VLMEvalKit downloads a table again if its md5 differs from the one in the package, from an
    address that ignores HF_ENDPOINT. Our tables were checked against the hub's own checksum when
    they were fetched.
    """
    from vlmeval import dataset

    for cls in dataset.DATASET_CLASSES:
        if getattr(cls, "DATASET_MD5", None):
            cls.DATASET_MD5 = dict.fromkeys(cls.DATASET_MD5)


def use_the_hub_cache() -> None:
    """``vlmeval.smp.file.HFCacheRoot``: media are where huggingface_hub keeps them.

    VLMEvalKit appends ``hub`` to a cache folder of any other name.
    """
    from huggingface_hub import constants
    from vlmeval.smp import file

    file.HFCacheRoot = lambda: constants.HF_HUB_CACHE


def replace_missing_flash_attention() -> bool:
    """``PreTrainedModel.get_correct_attn_implementation``: ``sdpa`` where flash-attn is missing.

    It is missing if it cannot be imported. About twenty of VLMEvalKit's classes, all of Qwen's
    among them, have the name ``flash_attention_2`` in their code. The loading functions are not
    the place: Auto classes pass the name on inside a config, and a config may bring it itself.

    Returns:
        Whether the patch was needed.
    """
    if attention.has_flash_attention():
        return False
    from transformers import PreTrainedModel

    PreTrainedModel.get_correct_attn_implementation = attention.without_flash(
        PreTrainedModel.get_correct_attn_implementation
    )
    return True


def take_media_types_from_content() -> None:
    """``preproc_content`` of all model classes: images and videos are recognised by content.

    A dataset states the type of each prompt part, but ``preproc_content`` guesses it again from the
    name. An unknown extension stops the question (some of SITE's files have none, or a wrong one),
    and so does a text that happens to name a file. API classes and some others (Claude, Gemma,
    Kimi, Llama 4) guess once more later. The file is therefore also linked under a name with the
    right extension.
    """
    from vlmeval.api.base import BaseAPI
    from vlmeval.vlm.base import BaseModel

    for base in (BaseModel, BaseAPI):
        base.preproc_content = media_names.trusting_types(base.preproc_content)


def save_pictures_whole() -> None:
    """``PIL.Image.Image.save``: a file appears when it is complete.

    Datasets write frames and pictures to files that several prompts share, and skip a file that is
    there. Another thread or process would read what is only half written.
    """
    from PIL import Image

    save = Image.Image.save

    @functools.wraps(save)
    def save_whole(self: Any, fp: Any, format: str | None = None, **options: Any) -> None:
        if not isinstance(fp, str | os.PathLike):
            save(self, fp, format, **options)
            return
        target = Path(fp)
        part = target.with_name(f".{os.getpid()}.{threading.get_ident()}.{target.name}")
        try:
            save(self, part, format, **options)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    Image.Image.save = save_whole


def add_own_folder() -> list[str]:
    """``vlmeval.vlm.__path__``: the user's model classes are modules of ``vlmeval.vlm``.

    Their folder comes last, so that a user's file never replaces a module of the package.

    Returns:
        One message for each file that is ignored because the package has a module of that name.

    Raises:
        EasiError: An ``__init__.py`` would make the folder a package that hides the installed one.
    """
    where = own_models.checked_folder()
    from vlmeval import vlm

    if str(where) not in vlm.__path__:
        vlm.__path__.append(str(where))
    return own_models.ignored_files(where, vlm.__path__[0])


def show_vsi_frames() -> None:
    """``VsiBench.build_prompt``: every class gets VSI-Bench's videos as extracted frames.

    Classes that take videos would otherwise get the video file (``--vsi-input frames``).
    """
    from vlmeval.dataset.vsibench import VsiBench

    build = VsiBench.build_prompt
    VsiBench.build_prompt = functools.wraps(build)(
        lambda dataset, line, video_llm=False: build(dataset, line, video_llm=False)
    )


def take_vsi_input(argv: Sequence[str]) -> list[str]:
    """Apply ``--vsi-input``, which VLMEvalKit's own parser does not know.

    Returns:
        The other arguments.
    """
    own = ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--vsi-input", choices=("video", "frames"), default="video")
    known, others = own.parse_known_args(list(argv))
    if known.vsi_input == "frames":
        show_vsi_frames()
    return others


def ask_judge(run_root: Path, name: str) -> list[judge.Judge]:
    """Make VLMEvalKit's scorers in this process ask their judge through ``judge.Judge``.

    Does nothing for the judges that stand for rules.

    Returns:
        The judges that were built so far; the list grows while datasets are scored.

    Raises:
        EasiError: There is no key, or no usable address.
    """
    if name in BY_RULES:
        return []
    from vlmeval.dataset import image_mcq
    from vlmeval.dataset.utils import multiple_choice
    from vlmeval.dataset.utils.spatial_bench import cal_scores, llm_extract

    where, replies = endpoint(), ReplyCache(RunPaths(run_root).judge_answers)
    judges: list[judge.Judge] = []
    current = threading.local()
    # build_judge: the judge is built anew for every dataset, looks for keys by its name, falls back
    # to rules without saying so, and caches replies by the question's index alone.
    image_mcq.build_judge = cal_scores.build_judge = functools.partial(
        judge.build, image_mcq.build_judge, name, where, replies, judges
    )
    # rd (random): a letter drawn for an unreadable answer depends on the order of the questions.
    multiple_choice.rd = judge.Letters(current)
    # Both functions that read one answer: judge and letters must know where a question begins.
    llm_extract.extract_ans_by_llm = judge.each_question(
        llm_extract.extract_ans_by_llm, judges, current
    )
    multiple_choice.extract_answer_from_item = judge.each_question(
        multiple_choice.extract_answer_from_item, judges, current
    )
    return judges


@contextlib.contextmanager
def exact_answers(path: Path, answers: Sequence[str]) -> Iterator[None]:
    """``pandas.read_excel``, ``DataFrame.to_excel``: an xlsx does not change the answers.

    Every reader of the prediction file ``path`` in this process gets the exact texts, and tables
    with characters that xlsx cannot hold are written with these characters escaped.

    All of VLMEvalKit's names for its ``load`` end in ``read_excel``, and its writers in
    ``to_excel``. Replacing these two reaches every module, however it imported them.
    """
    read, write = pd.read_excel, pd.DataFrame.to_excel
    with lossless_xlsx.holding(answers):
        pd.read_excel = lossless_xlsx.exact_reader(read, path, answers)
        pd.DataFrame.to_excel = lossless_xlsx.escaping_writer(write)
        try:
            yield
        finally:
            pd.read_excel, pd.DataFrame.to_excel = read, write


def import_run() -> ModuleType:
    """``int`` of ``vlmeval.run``: import the module with the GPUs already shared out.

    The module assigns GPUs to local ranks while it is imported, but it reads neither GPU names
    (UUID, MIG) nor an empty list. So the GPUs are shared out here, LOCAL_WORLD_SIZE is hidden
    during the import, and the module's ``int()`` accepts names.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if local > 1 and (visible := gpus.visible_gpus()):
        os.environ[gpus.VARIABLE] = gpus.share(
            visible, int(os.environ.get("LOCAL_RANK") or 0), local
        )
    spec = importlib.util.find_spec("vlmeval.run")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.int = run_functions.number_or_name
    sys.modules["vlmeval.run"] = module
    hidden = os.environ.pop("LOCAL_WORLD_SIZE", None)
    try:
        spec.loader.exec_module(module)
    finally:
        if hidden is not None:
            os.environ["LOCAL_WORLD_SIZE"] = hidden
    del module.int
    return module


def apply_to_run(run: ModuleType, outcomes: Outcomes, resume: bool) -> None:
    """Apply the patches of the imported ``vlmeval.run`` and of what only it calls.

    Args:
        run: The module.
        outcomes: Receives how each dataset ended.
        resume: Continue with the files of an earlier run, whatever ``--reuse`` says.
    """
    from torch import distributed
    from vlmeval.smp import file

    from vlmeval import inference_api, inference_video

    # All options go to the constructor of a video dataset, which rejects them; --limit is ignored
    # for videos and with --mode eval.
    run.build_dataset = functools.partial(run_functions.build_dataset, run.build_dataset)
    # If the constructor takes **kwargs, ``dataset`` is dropped and another dataset is built.
    run.build_dataset_from_config = functools.partial(
        run_functions.build_dataset_from_config, run.build_dataset, run.build_dataset_from_config
    )
    # Without --judge gpt-4o-mini would judge most of EASI's datasets, rules would score the others.
    run.get_judge_kwargs = functools.partial(run_functions.judge_options, run.get_judge_kwargs)
    # For a bare model name WORLD_SIZE is left unset, and every rank then answers every question;
    # and a model with missing weights would answer at random.
    run.build_model_from_config = run_functions.keeping_world_size(
        functools.partial(models.build_whole, run.build_model_from_config)
    )
    # If all videos are answered, rank 0 returns at once, and the other ranks wait for it.
    run.infer_data_job_video = functools.partial(
        run_functions.infer_videos, run.infer_data_job_video, run.is_prediction_complete
    )
    # When only some videos failed, a rank whose share is answered writes no file, but rank 0 reads
    # one per rank.
    inference_video.infer_data = functools.partial(
        run_functions.infer_rank, inference_video.infer_data
    )
    # --reuse copies the prediction of the newest T-folder over the current one even if the current
    # one is newer, and fails if one is a link to the other.
    file.copy_prediction_file = functools.partial(
        run_functions.copy_older_prediction, file.copy_prediction_file
    )
    if not resume:
        # Without --reuse it says that it starts fresh, but continues with the answers it finds.
        run.prepare_reuse_files = run_functions.starting_fresh(run.prepare_reuse_files)
    # The exit code is always 0, and BLINK, 3DSRBench and others take scores of other answers.
    replaced: tuple[Any, ...] = (run, inference_api)
    for module in replaced:
        module.upsert_dataset_status = outcomes.watching(module.upsert_dataset_status)
    # Under torchrun NCCL is asked for, also on a machine without GPUs.
    distributed.init_process_group = functools.partial(
        run_functions.init_process_group, distributed.init_process_group
    )


def settle_judges(run: ModuleType, judges: Sequence[judge.Judge]) -> None:
    """``vlmeval.run.build_dataset``: a dataset is scored until the judge's refusals are explained.

    VLMEvalKit puts a random letter or "invalid" in the place of an answer of the judge.
    """
    run.build_dataset = functools.partial(
        run_functions.build_judged_dataset, run.build_dataset, judges
    )


def register_model(model: ModelChoice, name: str) -> None:
    """``supported_VLM``: VLMEvalKit's own loop finds the planned model by ``name``."""
    from vlmeval.config import supported_VLM

    supported_VLM[name] = functools.partial(models.build_registered, models.model_factory(model))


def refuse_missing_weights(names: Sequence[str]) -> None:
    """``supported_VLM``: VLMEvalKit's own loop refuses models with missing weights, as our workers.

    A weight is missing if it is in no file of the checkpoint.
    """
    from vlmeval.config import supported_VLM

    for name in names:
        entry = supported_VLM.get(name)
        if isinstance(entry, functools.partial):  # stays one: the loop changes its keywords
            supported_VLM[name] = functools.partial(
                models.build_whole, entry.func, *entry.args, **entry.keywords
            )


def name_served_models(run: ModuleType, args: Namespace) -> None:
    """``supported_VLM``: a served model (``--base-url``) has a name that files can carry.

    Requests to the server keep the original name, such as ``org/model``. Changes ``args``.
    """
    if not any("/" in name for name in args.model):
        return
    served = {
        name.replace("/", "--"): {**run.build_model_from_base_url(args), "model": name}
        for name in args.model
    }
    for name, options in served.items():
        run.supported_VLM[name] = functools.partial(
            run_functions.build_served, run.LMDeployAPI, options
        )
    args.model, args.base_url = list(served), None


def offer_own_classes(config: str) -> None:
    """``vlmeval.vlm``: the user's own classes can be the ``class`` of a model in ``--config``."""
    from vlmeval import api, vlm

    add_own_folder()
    asked = json.loads(Path(config).read_text(encoding="utf-8")).get("model", {})
    package = dataclasses.replace(
        catalog.locate(BACKEND_FACTS["vlmevalkit"]), own=own_classes.folder()
    )
    for wanted in {given["class"] for given in asked.values() if "class" in given}:
        if (
            not hasattr(vlm, wanted)
            and not hasattr(api, wanted)
            and (found := own_classes.find(package, wanted)) is not None
        ):
            setattr(vlm, wanted, own_models.load(found.cls))
