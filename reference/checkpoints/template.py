"""A chat template, rendered as transformers does: Jinja in its sandbox, here also with limits of time and memory.

A template is a program that came with a checkpoint. Jinja's sandbox keeps it from files and from Python's inside; it
doesn't keep it from looping for ever, so it runs in a process of its own, which is this file.
Source: transformers 5.23, utils/chat_template_utils.py.
"""

import json
import subprocess
import sys
from datetime import datetime

SECONDS = 20
MEMORY = 2**30  # bytes, where the system can limit them
LONGEST_TEXT = 2**24  # characters
REASONING = ("reasoning_content", "thinking", "reasoning")  # what a message calls it; templates read the first two


def render_template(source: str, values: dict, seconds: float = SECONDS) -> str:
    """The text that the template makes of values, plain JSON data such as messages. Raises ValueError: says why not."""
    try:
        given = json.dumps({"source": source, "values": values})
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"can't take the conversation: it is no plain data ({error})") from None
    command = [sys.executable, "-P", "-X", "utf8", __file__]
    try:
        done = subprocess.run(command, input=given.encode(), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"did not end within {seconds:g} seconds") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise ValueError(f"ended without a text (exit status {done.returncode}: out of memory or too deep)") from None
    if "problem" in found:
        raise ValueError(found["problem"])
    return found["text"]


def answer(given: dict) -> dict:
    """{"text": ...} or {"problem": ...}, in the process that may be ended."""
    try:
        environment = _environment()
        values = given["values"] | {"messages": [_with_reasoning(message) for message in given["values"]["messages"]]}
        text = environment.from_string(given["source"]).render(**values)
    except ImportError as error:
        return {"problem": f"needs the package {error.name}, which is not installed"}
    except MemoryError:
        return {"problem": "needs too much memory"}
    except Exception as error:  # a template can raise anything
        about = f"{error}" if type(error).__name__ in ("TemplateError", "TemplateRuntimeError") else repr(error)
        return {"problem": f"refuses the conversation ({about[:500]})"}
    if len(text) > LONGEST_TEXT:
        return {"problem": f"makes a text of {len(text):,} characters, expected at most {LONGEST_TEXT:,}"}
    return {"text": text}


def _with_reasoning(message: object) -> object:
    """gpt-oss's template reads `thinking`, the others `reasoning_content`: both are given whatever it was called."""
    if not isinstance(message, dict):
        return message
    found = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if found is None else {"thinking": found} | message | {"reasoning_content": found}


def _environment() -> object:
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} marks the assistant's words for training; in a text it is what stands inside."""

        tags = frozenset({"generation"})

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

        def _as_it_is(self, caller):
            return caller()

    class PlainNamespace(jinja2.utils.Namespace):
        """No names that begin with an underscore: they would be Python's own."""

        def __init__(*given, **names):
            self, given = given[0], given[1:]
            values = dict(*given, **names)
            for name in values:
                PlainNamespace._check(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name, value):
            PlainNamespace._check(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

        @staticmethod
        def _check(name):
            if str(name).startswith("_"):
                raise jinja2.exceptions.SecurityError(f"namespace: {name!r} begins with an underscore")

    def raise_exception(message: str = "") -> None:
        raise jinja2.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        options = {"indent": indent, "separators": separators, "sort_keys": sort_keys}
        return json.dumps(x, ensure_ascii=ensure_ascii, **options)  # Jinja's own escapes for HTML and sorts the keys

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "namespace": PlainNamespace,
    }
    return environment


if __name__ == "__main__":
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # Windows has no such limit, some systems refuse it: time and length still hold
    print(json.dumps(answer(json.loads(sys.stdin.buffer.read()))))
