"""OpenAI's official clients against a whole running pipeline."""
