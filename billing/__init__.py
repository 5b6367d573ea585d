"""What did each job cost, and who owes what."""
