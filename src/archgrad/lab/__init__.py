"""The laboratory: estimators and searches measured on landscapes, where every answer is known."""
