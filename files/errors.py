"""Errors of the file store and the file repository."""

from core.errors import ClientError, Overloaded, PipelineError


class FileMissing(ClientError):
    """Unknown file, another account's, deleted or expired: all look alike."""

    code = "file-not-found"
    status = 404
    title = "File not found"


class QuotaReached(ClientError):
    """The account keeps as many bytes of files as it may keep."""

    code = "file-quota-reached"
    status = 413
    title = "File quota reached"


class StorageFull(Overloaded):
    """The file store has no room."""

    code = "storage-full"
    status = 507
    title = "Storage full"


class FilesUnavailable(Overloaded):
    """The file store does not answer."""

    code = "files-unavailable"
    status = 503
    title = "File store unavailable"


class ObjectMissing(PipelineError):
    """A file whose content is not in the file store, though it should be."""

    code = "content-missing"
    status = 500
    title = "Content missing"
