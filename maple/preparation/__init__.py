"""From upstream's instruction rows to tokenised training sets."""
