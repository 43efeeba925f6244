"""The hybrid model: configuration, blocks, cache, generation of text, and costs.

Read `config`, `block`, `hybrid`, in this order. The names that users need are in `reference` itself: HybridLM,
HybridConfig, preset, new_cache, generate.
"""
