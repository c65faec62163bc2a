"""What a model will see: rows as axolotl renders them, facts of them, and what is wrong."""
