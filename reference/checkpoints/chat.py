"""The tokenizer and the chat template that come with a checkpoint."""

from pathlib import Path

from torch import Tensor

from reference.arguments import SURROGATE
from reference.checkpoints.byte_level import read_tiktoken
from reference.checkpoints.given import read_json
from reference.checkpoints.template import render_template

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class HubTokenizer:
    """tokenizer.json of a folder, through the `tokenizers` library, or Kimi's tiktoken.model; chat templates in Jinja.

    stops: the ids at which the model's authors stop. Raises ValueError that names the file.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.about = self._read("tokenizer_config.json")
        self.inner = self._read_tokenizer()
        self.inner.no_truncation()  # saved by a job that cut its texts, or filled them up: a prompt is neither
        self.inner.no_padding()
        self.vocab_size = self.inner.get_vocab_size()
        self.stops = self._stops()

    def encode(self, text: str) -> list[int]:
        """Ids, with the special tokens that the tokenizer puts around a text; those named in the text count as such."""
        return self._ids(text, "text: ")

    def decode(self, ids: list[int] | Tensor) -> str:
        """The text of ids; special tokens are left out, broken UTF-8 becomes the replacement character."""
        return self.inner.decode(ids.tolist() if isinstance(ids, Tensor) else list(ids), skip_special_tokens=True)

    def encode_chat(
        self,
        messages: list[dict],
        tools: list[dict] | None = None,
        *,
        add_generation_prompt: bool = True,
        **variables: object,
    ) -> list[int]:
        """Ids of a conversation as the chat template writes it, up to where the answer begins.

        messages: {"role": "system" | "user" | "assistant" | ..., "content": ...}, from the first on. tools: their JSON
        schemas. variables: what else the template asks for, such as Qwen3's enable_thinking=False. Raises ValueError
        that names the template's file, also for a template that takes too long or too much.
        """
        path, source = self._template(tools is not None)
        values = self._names() | {"messages": messages, "tools": tools, "documents": None} | variables
        try:
            text = render_template(source, values | {"add_generation_prompt": add_generation_prompt})
        except ValueError as error:
            raise ValueError(f"{path}: its chat template {error}") from None
        return self._ids(text, f"{path}: its chat template makes a text that ", add_special_tokens=False)

    def _ids(self, text: str, about: str, **options: bool) -> list[int]:
        if half := SURROGATE.search(text):
            raise ValueError(f"{about}holds half a character, {half[0]!a} at {half.start()}, which no file can hold")
        return self.inner.encode(text, **options).ids

    def _read(self, name: str) -> dict:
        return read_json(self.folder / name) if (self.folder / name).is_file() else {}

    def _read_tokenizer(self) -> object:
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            if (self.folder / "tiktoken.model").is_file():
                return read_tiktoken(self.folder / "tiktoken.model", self._special_ids())
            raise ValueError(f"{path}: is missing; other files that are read: tiktoken.model")
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{path}: can't be read ({error})") from None

    def _special_ids(self) -> dict[int, str]:
        """tokenizer_config.json's added_tokens_decoder: {id: name}."""
        found = self.about.get("added_tokens_decoder", {})
        try:
            return {int(n): about["content"] for n, about in found.items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            path = self.folder / "tokenizer_config.json"
            raise ValueError(f'{path}: added_tokens_decoder: expected {{"id": {{"content": name}}}}') from None

    def _stops(self) -> tuple[int, ...]:
        """eos_token_id of generation_config.json, of config.json, of its text_config; else the eos token's id."""
        config = self._read("config.json")
        text = config.get("text_config")
        for name, values in (
            ("generation_config.json", self._read("generation_config.json")),
            ("config.json", config),
            ("config.json: text_config", text if isinstance(text, dict) else {}),
        ):
            found = values.get("eos_token_id")
            ids = found if isinstance(found, list) else [] if found is None else [found]
            for n in ids:
                if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 2**31:
                    problem = f"expected an id or a list of ids, from 0, got {str(found)[:100]}"
                    raise ValueError(f"{self.folder / name}: eos_token_id: {problem}")
            if ids:
                return tuple(ids)
        found = self.inner.token_to_id(self._names().get("eos_token", ""))
        return () if found is None else (found,)

    def _names(self) -> dict[str, str]:
        """bos_token, eos_token and so on, as tokenizer_config.json or the older special_tokens_map.json name them."""
        names = {}
        for file in ("special_tokens_map.json", "tokenizer_config.json"):
            values = self.about if file == "tokenizer_config.json" else self._read(file)
            for key in NAMED:
                name = values.get(key)
                name = name.get("content") if isinstance(name, dict) else name
                if name is None:
                    continue
                if not isinstance(name, str) or SURROGATE.search(name):
                    got = ascii(values[key])[:100]
                    raise ValueError(f"{self.folder / file}: {key}: expected a name or its content, got {got}")
                names[key] = name
        return names

    def _template(self, with_tools: bool) -> tuple[Path, str]:
        """(its file, the template): chat_template.jinja, else tokenizer_config.json's; of several "tool_use" for tools,
        "default" otherwise."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            try:
                return path, path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}: can't be read ({error})") from None
        path, template = self.folder / "tokenizer_config.json", self.about.get("chat_template")
        if isinstance(template, list):
            try:
                named = {entry["name"]: entry["template"] for entry in template}
            except (KeyError, TypeError):
                raise ValueError(f"{path}: chat_template: expected a text or a list of name and template") from None
            template = named.get("tool_use", named.get("default")) if with_tools else named.get("default")
        if template is None:
            raise ValueError(f"{self.folder}: has no chat template; give the prompt as plain text")
        if not isinstance(template, str):
            raise ValueError(f"{path}: chat_template: expected a text, got {str(template)[:100]}")
        return path, template
