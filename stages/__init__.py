"""The verbs: one file per DVC stage. Each reads its inputs, calls `maple`, and writes its outputs."""
