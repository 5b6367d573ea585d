"""Translates requests of the Responses API to chats and back."""
