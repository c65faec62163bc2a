"""What is known of a recipe's data without a network: how many rows, and how long."""
