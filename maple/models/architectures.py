"""Which model types (`model_type` of config.json) each of our own ways through a model was compared for. No torch here.

A type may do more than our code knows: cap its logits, scale them, or have its layers elsewhere. Its numbers would
then be wrong without a sign of it. So each list holds only types whose numbers a test compares with transformers'
own, and any other takes the plain way: `evaluation.path: plain`, and for training a type of PACKED at least.
"""

# Answers with shared prefixes and replaced attention (maple/answering/forward.py;
# tests/answering/test_architectures.py).
SHARED = ("gemma", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3")
# Training on packed rows through the model's own modules, recipe.path: stock (tests/training/test_loop.py).
PACKED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "olmo2")
# Training with our own blocks, recipe.path: fused and fused_bfloat16 (tests/training/test_fused_blocks.py).
FUSED = ("llama", "mistral")
