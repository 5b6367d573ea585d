"""The shapes of OpenAI's API and our own, without HTTP."""
