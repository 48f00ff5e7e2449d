"""From a model to its stored answers: prompts, log-likelihoods, generated texts."""
