"""A local stand-in for Unify's sequence-enrollments API, for demos and tests."""

from unify_source.sandbox.account import Account
from unify_source.sandbox.app import Request
from unify_source.sandbox.clock import Clock
from unify_source.sandbox.drift import DRIFTS
from unify_source.sandbox.faults import Fault
from unify_source.sandbox.server import Sandbox, serve

__all__ = ["DRIFTS", "Account", "Clock", "Fault", "Request", "Sandbox", "serve"]
