"""AlpacaEval's judge."""
