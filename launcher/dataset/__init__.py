"""The first rows of a recipe's data: from a file, from the Hub, or small stand-ins for them."""
