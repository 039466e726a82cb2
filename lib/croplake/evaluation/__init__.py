"""How good a classifier is: figures, a table, a picture."""
