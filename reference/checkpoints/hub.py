"""Where a model's files are: a folder of this machine, or the Hugging Face Hub."""

import re
from pathlib import Path

from reference.arguments import check_place

SMALL = ["*.json", "*.jinja", "tokenizer.model"]
WEIGHTS = "*.safetensors"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_folder(path_or_hub_id: str | Path, *, weights: bool = True) -> Path:
    """The folder itself, or a copy of the Hub's repository in its cache. weights: False fetches the small files only,
    so that what can be refused is refused before the long download. Raises ValueError that says what was tried."""
    try:
        folder = check_place("path_or_hub_id", path_or_hub_id).expanduser()
    except RuntimeError:  # ~ and the name of nobody
        raise ValueError(f"{path_or_hub_id}: is no folder of anybody here") from None
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder}: has no config.json")
        return folder
    if folder.exists():
        raise ValueError(f"{folder}: expected a folder with config.json and safetensors, got a file")
    if not HUB_ID.fullmatch(str(path_or_hub_id)):
        raise ValueError(f"{path_or_hub_id}: is neither a folder here nor an owner/name on the Hugging Face Hub")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise ValueError(
            f"{path_or_hub_id}: is no folder here; to fetch it from the Hugging Face Hub run "
            "`pip install huggingface_hub tokenizers jinja2` (the extra `hub` of this package)"
        ) from None
    try:
        return Path(snapshot_download(str(path_or_hub_id), allow_patterns=[*SMALL, WEIGHTS] if weights else SMALL))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path_or_hub_id}: the Hugging Face Hub did not give it ({reason})") from None
