"""What is deployed agrees with the code: manifests, compose file, images."""
