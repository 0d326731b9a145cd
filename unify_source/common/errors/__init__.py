"""What a run reports: its errors and notices, with every secret redacted."""

from unify_source.common.errors.tree import (
    ApiError,
    BrokenPage,
    ConfigurationError,
    DestinationUnreachable,
    KeyRefused,
    LoadFailed,
    LockHeld,
    NotFound,
    NotPermitted,
    RateLimited,
    RequestRefused,
    RowUnavailable,
    ServerFailed,
    TooLarge,
    UnifyError,
    Unreachable,
)

__all__ = [
    "ApiError",
    "BrokenPage",
    "ConfigurationError",
    "DestinationUnreachable",
    "KeyRefused",
    "LoadFailed",
    "LockHeld",
    "NotFound",
    "NotPermitted",
    "RateLimited",
    "RequestRefused",
    "RowUnavailable",
    "ServerFailed",
    "TooLarge",
    "UnifyError",
    "Unreachable",
]
