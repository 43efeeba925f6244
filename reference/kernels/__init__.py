"""The chunked operators as Triton kernels, for GPUs (chapter 14). Optional: nothing here is imported unless a tensor
lies on a GPU, a chapter asks for the emulation, or a test does.

    forward.py    (4.3) to (4.6): one kernel, and three of which two have a program per chunk; two for additive rules
    backward.py   (4.9) to (4.14)
    decode.py     one token
    tiles.py      loads, decays, scores, and the triangular inverse by blocks
    host.py       buffers, grids, launches, autograd
    choice.py      kernel or PyTorch, and why
    language.py   Triton, or in its place emulation.py and memory.py: the same words in NumPy
"""
