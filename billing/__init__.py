"""What each job cost, what each account owes, and the documents that say so."""
