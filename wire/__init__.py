"""Request and response formats of OpenAI's API and our own, without HTTP."""
