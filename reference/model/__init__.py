"""The hybrid model: its configuration, blocks and cache, how it writes text, and what it costs.

Read `config`, `block`, `hybrid`, in this order. The names that users need are in `reference` itself: HybridLM,
HybridConfig, preset, new_cache, generate.
"""
