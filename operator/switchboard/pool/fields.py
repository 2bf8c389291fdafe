"""One object of a resource, read field by field: what is wrong is noted and reading goes on, so all is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

T = TypeVar("T")


class Fields:
    """The fields of one object of the resource. What is wrong is noted, and reading goes on with the fallback."""

    def __init__(self, values: object, path: str, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        self._path = path
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    @property
    def given(self) -> bool:
        """Whether the object is there at all, and not empty."""
        return bool(self._values)

    def read(self, name: str, parse: Callable[[Any], T], fallback: T, *, required: bool = False) -> T:
        """One field; `fallback` is its default when it is left out."""
        value = self._values.get(name)
        if value is None:
            if required:
                self.problems.append(("MissingField", f"{self._path}.{name} is missing: add it"))
            return fallback
        return self._parse(f"{self._path}.{name}", parse, value, fallback)

    def each(self, name: str, parse: Callable[[Any], T], fallback: T, *, required: bool = False) -> tuple[T, ...]:
        """A list of plain values."""
        values = self._list(name, required=required)
        return tuple(self._parse(f"{self._path}.{name}[{at}]", parse, value, fallback) for at, value in values)

    def one_of(self, name: str, allowed: object, fallback: T, *, required: bool = False) -> T:
        """A field with a few allowed values: those of the Literal `allowed`."""
        return self.read(name, _choice(get_args(allowed)), fallback, required=required)

    def choices(self, name: str, allowed: object) -> tuple[Any, ...]:
        """A list of such values."""
        return self.each(name, _choice(get_args(allowed)), None)

    def inside(self, name: str) -> Fields:
        return Fields(self._values.get(name), f"{self._path}.{name}", self.problems)

    def objects(self, name: str) -> list[Fields]:
        return [Fields(value, f"{self._path}.{name}[{at}]", self.problems) for at, value in self._list(name)]

    def _list(self, name: str, *, required: bool = False) -> list[tuple[int, Any]]:
        values: list[Any] = self.read(name, _items, [], required=required)
        if required and values == [] and name in self._values:
            self.problems.append(("MissingField", f"{self._path}.{name} is empty: add at least one"))
        return list(enumerate(values))

    def _parse(self, path: str, parse: Callable[[Any], T], value: object, fallback: T) -> T:
        try:
            return parse(value)
        except ValueError as error:
            self.problems.append(("InvalidField", f"{path} is {value!r}: {error}"))
            return fallback


def _choice(allowed: tuple[Any, ...]) -> Callable[[Any], Any]:
    def parse(value: object) -> object:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(str(one) for one in allowed)}")
        return value

    return parse


def _items(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004 (all of them raise the same error, for one message)
    return list(value)


def mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be an object")  # noqa: TRY004 (all of them raise the same error, for one message)
    return dict(value)
