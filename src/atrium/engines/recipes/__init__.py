"""From a model's card to the program that runs it, and what it will cost."""
