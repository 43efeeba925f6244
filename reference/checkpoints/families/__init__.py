"""One file per family: its table, the model that was published, and the smallest one that has all its parts.

To add a family, write its file (llama.py is the shortest, `family.py` says what each entry means) and name it here.
Tests, README and appendix take it from FAMILIES; `python -m reference families` and `... families --tensors` print
their tables anew.
"""

from reference.checkpoints.families.bailing_hybrid import BAILING_HYBRID
from reference.checkpoints.families.bamba import BAMBA
from reference.checkpoints.families.deepseek_v2 import DEEPSEEK_V2
from reference.checkpoints.families.deepseek_v3 import DEEPSEEK_V3
from reference.checkpoints.families.deepseek_v32 import DEEPSEEK_V32
from reference.checkpoints.families.falcon_h1 import FALCON_H1
from reference.checkpoints.families.gemma3 import GEMMA3
from reference.checkpoints.families.glm4_moe_lite import GLM4_MOE_LITE
from reference.checkpoints.families.gpt_oss import GPT_OSS
from reference.checkpoints.families.granite import GRANITE
from reference.checkpoints.families.granite_swa import GRANITE_SWA, GRANITEMOE_SWA
from reference.checkpoints.families.granitemoe import GRANITEMOE
from reference.checkpoints.families.granitemoehybrid import GRANITEMOEHYBRID
from reference.checkpoints.families.jamba import JAMBA
from reference.checkpoints.families.kimi_linear import KIMI_LINEAR
from reference.checkpoints.families.lfm2 import LFM2
from reference.checkpoints.families.lfm2_moe import LFM2_MOE
from reference.checkpoints.families.lfm3 import LFM3
from reference.checkpoints.families.llama import LLAMA
from reference.checkpoints.families.mamba import FALCON_MAMBA, MAMBA_1
from reference.checkpoints.families.mamba2 import MAMBA2
from reference.checkpoints.families.minimax import MINIMAX
from reference.checkpoints.families.minimax_m2 import MINIMAX_M2
from reference.checkpoints.families.mistral4 import MISTRAL4
from reference.checkpoints.families.nemotron_h import NEMOTRON_H
from reference.checkpoints.families.olmo3 import OLMO3
from reference.checkpoints.families.olmo_hybrid import OLMO_HYBRID
from reference.checkpoints.families.qwen3 import QWEN3
from reference.checkpoints.families.qwen3_5 import QWEN3_5
from reference.checkpoints.families.qwen3_5_moe import QWEN3_5_MOE
from reference.checkpoints.families.qwen3_moe import QWEN3_MOE
from reference.checkpoints.families.qwen3_next import QWEN3_NEXT
from reference.checkpoints.families.recurrent_gemma import RECURRENT_GEMMA
from reference.checkpoints.families.youtu import YOUTU

# The families whose story the book tells, in the order of its tables.
STORY = (
    LLAMA,
    QWEN3,
    QWEN3_NEXT,
    QWEN3_5,
    KIMI_LINEAR,
    MINIMAX,
    MINIMAX_M2,
    DEEPSEEK_V32,
    GPT_OSS,
    OLMO_HYBRID,
)
# And those that load as well: relatives and neighbours of the above.
FAMILIES = (
    *STORY,
    QWEN3_MOE,
    QWEN3_5_MOE,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    GLM4_MOE_LITE,
    YOUTU,
    BAILING_HYBRID,
    MAMBA_1,
    FALCON_MAMBA,
    JAMBA,
    MAMBA2,
    BAMBA,
    GRANITEMOEHYBRID,
    LFM2,
    LFM2_MOE,
    LFM3,
    OLMO3,
    GEMMA3,
    GRANITE,
    GRANITEMOE,
    GRANITE_SWA,
    GRANITEMOE_SWA,
    NEMOTRON_H,
    FALCON_H1,
    MISTRAL4,
    RECURRENT_GEMMA,
)
BY_TYPE = {name: family for family in FAMILIES for name in (family.name, *family.also)}
