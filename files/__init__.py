"""Files that clients upload for batches, and the result files of batches."""
