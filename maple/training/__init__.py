"""LoRA finetuning of one cell."""
