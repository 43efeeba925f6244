"""One file per family: a table of how its checkpoints differ. To add one, write its file and name it here."""

from reference.checkpoints.families.deepseek_v32 import DEEPSEEK_V32
from reference.checkpoints.families.gpt_oss import GPT_OSS
from reference.checkpoints.families.kimi_linear import KIMI_LINEAR
from reference.checkpoints.families.llama import LLAMA
from reference.checkpoints.families.minimax import MINIMAX
from reference.checkpoints.families.minimax_m2 import MINIMAX_M2
from reference.checkpoints.families.olmo_hybrid import OLMO_HYBRID
from reference.checkpoints.families.qwen3 import QWEN3
from reference.checkpoints.families.qwen3_5 import QWEN3_5
from reference.checkpoints.families.qwen3_next import QWEN3_NEXT

# In the order in which `save_pretrained` tries them: the first that can say a model's config is taken.
FAMILIES = (
    LLAMA,
    QWEN3,
    QWEN3_5,
    QWEN3_NEXT,
    KIMI_LINEAR,
    MINIMAX,
    MINIMAX_M2,
    DEEPSEEK_V32,
    GPT_OSS,
    OLMO_HYBRID,
)
BY_TYPE = {name: family for family in FAMILIES for name in (family.name, *family.also)}
