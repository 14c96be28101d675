"""Answers of plain ``transformers.generate`` to requests that were sent to a server.

It runs with the Python of the profile that loads the checkpoint:
``python tests/plain_answers.py FOLDER REQUESTS ANSWERS``. REQUESTS is a JSON list of chat
completion requests, ANSWERS becomes the list of texts.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


def part(sent: dict[str, Any]) -> dict[str, Any]:
    if sent["type"] == "text":
        return sent
    data = base64.b64decode(sent["image_url"]["url"].partition("base64,")[2])
    return {"type": "image", "image": Image.open(io.BytesIO(data))}


def main(folder: str, requests: Path, answers: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")
    told = []
    for request in json.loads(requests.read_text(encoding="utf-8")):
        inputs = processor.apply_chat_template(
            [
                {"role": each["role"], "content": [part(sent) for sent in each["content"]]}
                for each in request["messages"]
            ],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        )
        made = model.generate(**inputs, do_sample=False, max_new_tokens=request["max_tokens"])
        told.append(
            processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        )
    answers.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
