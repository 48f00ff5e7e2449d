"""The verbs: one file per DVC stage. Each reads its inputs, calls `maple`, and writes its outputs."""

import gc

# Importing torch and transformers makes a million objects and drops none: looking for garbage all the while took a
# fifth of the time. `environment.settle` puts the threshold back before a model is loaded.
gc.set_threshold(100_000)
