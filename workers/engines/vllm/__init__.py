"""The vLLM engine. No other package imports vLLM; see `engine` for the entry point."""
