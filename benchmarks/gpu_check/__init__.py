"""The GPU kit: what is true of this project on the machine at hand, in eight minutes, on a page.

``python -m benchmarks.gpu_check --out DIR`` needs torch and transformers; docs/gpu.md says how to use it.
"""
