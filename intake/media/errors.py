"""Errors of fetching media."""

from core.errors import InvalidJob, Overloaded


class MediaNotFetched(InvalidJob):
    """A URL of the request could not be fetched, or what it has is too large or no such media."""

    code = "media-not-fetched"
    status = 422
    title = "Media not fetched"


class MediaBusy(Overloaded):
    """The account already fetches as many media as it may, or the process does."""

    code = "media-busy"
    status = 429
    title = "Too many media are fetched"
