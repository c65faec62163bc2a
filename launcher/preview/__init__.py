"""What a model will see: rows as they are rendered, facts about them, and what is wrong with them."""
