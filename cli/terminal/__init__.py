"""Options, output and failures that the commands share."""
