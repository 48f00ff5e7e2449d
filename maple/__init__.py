"""The nouns of the artifact: cells, sources, training sets, tasks, scores, tables. Nothing here runs by itself."""
