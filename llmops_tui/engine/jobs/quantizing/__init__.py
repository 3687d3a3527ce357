"""How a model gets fewer bits, one way a file, and how each result is measured."""
