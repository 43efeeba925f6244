"""The tokenizer and the chat template that come with a checkpoint."""

from datetime import datetime
from pathlib import Path

from torch import Tensor

from reference.checkpoints.given import read_json


class HubTokenizer:
    """tokenizer.json of a folder, through the `tokenizers` library; chat templates through Jinja in its sandbox.

    stops: the ids at which the model's authors stop. Raises ValueError that names the file.
    """

    def __init__(self, folder: Path):
        self.folder, path = folder, folder / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{path}: is missing; other kinds of tokenizer files are not read")
        from tokenizers import Tokenizer

        try:
            self.inner = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{path}: can't be read ({error})") from None
        self.vocab_size = self.inner.get_vocab_size()
        self.stops = self._stops()

    def _stops(self) -> tuple[int, ...]:
        for name in ("generation_config.json", "config.json"):
            if (self.folder / name).is_file():
                found = read_json(self.folder / name).get("eos_token_id")
                if found is not None:
                    return tuple(found) if isinstance(found, list) else (found,)
        return ()

    def encode(self, text: str) -> list[int]:
        """Ids, with the special tokens that the tokenizer puts around a text."""
        return self.inner.encode(text).ids

    def decode(self, ids: list[int] | Tensor) -> str:
        return self.inner.decode(ids.tolist() if isinstance(ids, Tensor) else list(ids), skip_special_tokens=True)

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """Ids of a conversation of {"role": ..., "content": ...}, as the chat template writes it, up to the answer."""
        source, names = self._template()
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        extensions = ["jinja2.ext.loopcontrols"]
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        environment.globals |= {"raise_exception": raise_exception, "strftime_now": datetime.now().strftime}
        try:
            text = environment.from_string(source).render(messages=messages, add_generation_prompt=True, **names)
        except TemplateError as error:
            raise ValueError(f"{self.folder}: its chat template refuses the conversation ({error})") from None
        return self.inner.encode(text, add_special_tokens=False).ids

    def _template(self) -> tuple[str, dict[str, str]]:
        path = self.folder / "tokenizer_config.json"
        about = read_json(path) if path.is_file() else {}
        names = {key: x["content"] if isinstance(x, dict) else x for key, x in about.items() if key.endswith("_token")}
        names = {key: x for key, x in names.items() if isinstance(x, str)}
        if (self.folder / "chat_template.jinja").is_file():
            return (self.folder / "chat_template.jinja").read_text(encoding="utf-8"), names
        template = about.get("chat_template")
        if isinstance(template, list):
            template = next((x["template"] for x in template if x.get("name") == "default"), None)
        if template is None:
            raise ValueError(f"{self.folder}: has no chat template; give the prompt as plain text")
        return template, names
