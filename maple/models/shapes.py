"""What a model's shapes alone determine: parameters, LoRA parameters, FLOPs. No weights, no torch.

Shapes come from the model's config.json fields (`hidden_size`, ...), so the counts hold for any bit width;
4-bit weights are packed two to a byte, and counting stored elements would halve them.
"""

from dataclasses import dataclass
from typing import Any

from maple.config.params import Recipe


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    # One matrix for embedding and output head, as in Gemma; Llama 2 and Mistral have two.
    tied: bool = False

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> "Shape":
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            # Gemma's files leave the field out and mean yes.
            tied=config.get("tie_word_embeddings", config.get("model_type", "").startswith("gemma")),
        )

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The seven linear layers of one block: name -> (in, out)."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def block_parameters(self) -> int:
        """Weights of all block linears, the ones that bitsandbytes quantises."""
        return self.layers * sum(i * o for i, o in self.linears.values())

    @property
    def embedding_parameters(self) -> int:
        """Input embedding and output head."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden

    @property
    def norm_parameters(self) -> int:
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        return self.block_parameters + self.embedding_parameters + self.norm_parameters

    def lora_parameters(self, rank: int, targets: list[str]) -> int:
        """A (rank x in) and B (out x rank) for each target in each block."""
        return self.layers * rank * sum(sum(self.linears[name]) for name in targets)

    def trainable_parameters(self, recipe: Recipe, rank: int) -> int:
        """Numbers that the recipe's method trains; `rank` is that of a method that has one."""
        keys = self.kv_heads * self.head_dim
        if recipe.method == "full":
            return self.parameters
        if recipe.method == "ia3":
            # A factor for each output of keys and values, and for each input of the last matrix (PEFT's choice).
            return self.layers * (2 * keys + self.intermediate)
        if recipe.method in ("prompt", "prefix"):
            # Embeddings, or keys and values in every layer.
            return recipe.virtual_tokens * (self.hidden if recipe.method == "prompt" else 2 * self.layers * keys)
        # DoRA also trains a magnitude for each output.
        outputs = sum(self.linears[name][1] for name in recipe.lora.targets) * (recipe.method == "dora")
        return self.lora_parameters(rank, recipe.lora.targets) + self.layers * outputs

    def trainable_percent(self, recipe: Recipe, rank: int) -> float:
        """Percent as PEFT prints it: of the base and what stands beside it."""
        trained = self.trainable_parameters(recipe, rank)
        return 100 * trained / (self.parameters + trained * (recipe.method != "full"))

    @property
    def forward_flops(self) -> int:
        """Multiply-adds of the matrix products for one token, times two, without attention scores."""
        return 2 * (self.block_parameters + self.vocabulary * self.hidden)
