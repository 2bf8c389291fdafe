"""Errors of everything under e2e/: each cluster has more of its own.

E2eError
├── RequirementError     this machine lacks a program or a permission
├── BuildError           a program could not be built from its sources
└── EmbeddedError        in e2e.embedded.errors

Each message says what was wrong and what to do about it, in one line.
"""


class E2eError(Exception):
    """Base of all errors raised on purpose."""


class RequirementError(E2eError):
    """The machine lacks a program or a permission."""


class BuildError(E2eError):
    """A program could not be built from its sources."""
