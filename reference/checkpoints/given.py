"""config.json, read field by field. A field that was never read is refused: it might change what the model computes."""

import json
from pathlib import Path
from types import NoneType
from typing import get_args

from reference.arguments import cut_short

REQUIRED = object()
# Fields that don't change what a model computes from its tokens: bookkeeping, training, and what generate() uses.
NEUTRAL = set(
    """
    _name_or_path architectures auto_map transformers_version torch_dtype dtype use_cache model_type id2label label2id
    return_dict output_attentions output_hidden_states is_encoder_decoder chunk_size_feed_forward problem_type
    pad_token_id bos_token_id eos_token_id image_token_id video_token_id vision_start_token_id vision_end_token_id
    attention_dropout hidden_dropout resid_pdrop embd_pdrop initial_context_length output_router_logits
    router_aux_loss_coef aux_loss_alpha seq_aux router_jitter_noise pretraining_tp experts_per_token ep_size
    attn_implementation _attn_implementation mamba_ssm_dtype torchscript tokenizer_class max_window_layers
    num_nextn_predict_layers mtp_num_hidden_layers mtp_use_dedicated_embeddings num_mtp_modules mtp_transformer_layers
    use_mtp is_llama_config transformers.js_config unsloth_fixed unsloth_version temperature top_p top_k do_sample
    max_length max_sequence_length min_length linear_a_log_min linear_a_log_max linear_dt_min linear_dt_max
    linear_dt_init_floor block_size diversity_penalty early_stopping encoder_no_repeat_ngram_size length_penalty
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values
    repetition_penalty return_dict_in_generate typical_p generate tf_legacy_loss use_bfloat16 tie_encoder_decoder
    is_decoder
    """.split()  # noqa: SIM905 (a list of 50 strings is harder to read)
)
TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", NoneType: "null"}
TYPE_WORDS |= {list: "a list", dict: "an object"}
MOST = 2**31  # no size is as large,
MOST_PARTS = 10_000  # and no number of layers, heads or experts


class Given:
    """The fields of a config.json; `path` is for messages. Raises ValueError that names file, field and expectation."""

    def __init__(self, values: dict, path: Path | str, ignore: tuple[str, ...] = ()):
        self.values, self.path, self.ignore = values, path, set(ignore)
        self.said = frozenset(values)  # the names of all fields, read or not

    def take(self, name: str, default: object = REQUIRED, kind: object = None) -> object:
        """The field's value, or its default; kind: as in `check`."""
        if name in self.values:
            value = self.values.pop(name)
            if kind is not None and value != default:
                self.check(name, value, kind)
            return value
        if default is REQUIRED:
            self.fail(name, "is missing")
        return default

    def check(self, name: str, value: object, kind: object, least: int = 0) -> None:
        """kind: a type of JSON's, or a union of them. Numbers are finite and not below `least`. A whole number is also
        a float; true and false are no numbers."""
        kinds = get_args(kind) or (kind,)
        fits = type(value) in kinds or (type(value) is int and float in kinds)
        if fits and type(value) in (int, float):
            most = 1e30 if float in kinds else MOST_PARTS if name.startswith(("num_", "n_")) else MOST
            fits = least <= value <= most  # no NaN, no infinity
        if not fits:
            words = [TYPE_WORDS[x] + f" from {least}" * (x in (int, float)) for x in kinds]
            self.fail(name, f"expected {' or '.join(words)}, got {cut_short(value)}")

    def expect(self, name: str, *allowed: object) -> None:
        """Only these values are implemented; a missing field means the first."""
        value = self.take(name, allowed[0])
        if value not in allowed:
            self.fail(
                name,
                f"expected {' or '.join(map(repr, allowed))}, got {cut_short(value)}, which is not implemented here",
            )

    def pass_over(self, *names: str) -> None:
        """Fields that a file may have and that this model has no use for."""
        for name in names:
            self.values.pop(name, None)

    def fail(self, name: str, problem: str) -> None:
        """Raise ValueError that names the file and the field."""
        raise ValueError(f"{self.path}: {name}: {problem}")

    def finish(self) -> None:
        """Raise ValueError if a field is left that may change what the model computes."""
        left = {name for name, value in self.values.items() if not says_nothing(name, value)}
        left = sorted(left - NEUTRAL - self.ignore)
        if left:
            raise ValueError(
                f"{self.path}: {', '.join(left)}: not known here, so it may change what the model computes; "
                "if it does not, name it in ignore_fields"
            )


def says_nothing(name: str, value: object) -> bool:
    """Whether an unknown field leaves the model as it is: null or empty, no bias, a factor of one."""
    if value is None or value in ("", [], {}):
        return True
    if value is False:
        return "bias" in name or name in ("use_sliding_window", "rope_interleaved", "add_cross_attention")
    is_factor = name.endswith(("_alpha", "_beta", "_alpha_factor", "_beta_factor", "_multiplier"))
    return is_factor and type(value) in (int, float) and value == 1


def read_json(path: Path) -> dict:
    """A JSON object. Raises ValueError that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({str(error)[:200]})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values
