"""A local stand-in for Unify's sequence-enrollments API, for demos and tests."""

from unify_source.sandbox.account.account import Account
from unify_source.sandbox.account.clock import Clock
from unify_source.sandbox.http.app import Request
from unify_source.sandbox.http.faults import Fault
from unify_source.sandbox.http.server import Sandbox, serve
from unify_source.sandbox.invent.drift import DRIFTS

__all__ = ["DRIFTS", "Account", "Clock", "Fault", "Request", "Sandbox", "serve"]
