"""Write NAME.json from NAME.old.json.

NAME.json is what transformers 5 saves after loading that config of transformers 4. Run it in an
environment with transformers 5 (made with 5.24.0): ``python tests/data/transformers5/refresh.py``.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoConfig

for old in sorted(Path(__file__).parent.glob("*.old.json")):
    with TemporaryDirectory() as folder:
        shutil.copy(old, Path(folder, "config.json"))
        AutoConfig.from_pretrained(folder).save_pretrained(folder)
        shutil.copy(Path(folder, "config.json"), old.with_name(old.name.replace(".old", "")))
