"""What a key of the configuration may hold: decided here once, and told in one line each.

A component (what stands behind a ``_target_``) is a dataclass under :func:`component`, whose fields
say by their types what is allowed. Nothing is guessed: a boolean is true or false, a whole number
whole, a number finite, text is text, and an unknown key is refused.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    dataclass_transform,
    get_args,
    get_type_hints,
    overload,
)

import pydantic.dataclasses
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, ConfigDict, Strict, ValidationError
from pydantic import GetCoreSchemaHandler as Handler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from spice.errors import InputError, did_you_mean

T = TypeVar("T")
MOST = 2**31 - 1  # what counts are bounded by
SHOWN = 60  # characters of a value


class RefusedError(InputError):
    """Raised in ``__post_init__`` where values do not go together: the key, its value, and why."""

    def __init__(self, key: str, value: object, words: str) -> None:
        super().__init__(f"{key}={shown(value)}: {words}")
        self.key, self.value, self.words = key, value, words


class Problem(NamedTuple):
    """One value that is refused; an empty ``path`` stands for ``words`` that name their key."""

    path: tuple[str, ...]
    value: object
    words: str

    def told(self, group: str = "") -> str:
        """One line, with the key as the user types it."""
        key = ".".join(filter(None, (group, *self.path)))
        if not self.path:
            return self.words
        if self.words is MISSING:
            return f"{key} is missing; give {key}=…"
        if self.words.startswith(UNKNOWN):
            return f"{key}: {self.words}"
        return f"{key}={shown(self.value)}: {self.words}"


MISSING, UNKNOWN = "is missing", "no such key."


class ValuesError(InputError):
    """All that is wrong with the values that one component was given."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(problem.told() for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Told:
    """What a value must be, said in these words whichever way it is not."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Handler) -> CoreSchema:
        """The type's own checks under one message."""
        return core_schema.custom_error_schema(
            handler(source), custom_error_type="told", custom_error_message=self.words
        )


class OneOf:
    """A name out of some; in the error stands the nearest."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def __get_pydantic_core_schema__(self, source: Any, handler: Handler) -> CoreSchema:
        """Those names and no others."""
        return core_schema.literal_schema(list(self.known))


class Keys:
    """A component that is written as plain keys, without a ``_target_``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Handler) -> CoreSchema:
        """The same component, from a mapping too."""

        def made(value: Any) -> Any:
            named = isinstance(value, Mapping)
            return source(**{str(key): held for key, held in value.items()}) if named else value

        return core_schema.no_info_before_validator_function(made, handler(source))


def _path(value: Any) -> Any:
    """A folder may be named 7 or nan, and come as a path; nothing else becomes text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number or isinstance(value, os.PathLike) else value


Text = Annotated[str, Told("must be text")]
Name = Annotated[str, MinLen(1), Told("must be a name, and not empty")]
FilePath = Annotated[str, BeforeValidator(_path), MinLen(1), Told("must be a path")]
FilePaths = Annotated[
    tuple[FilePath, ...], Strict(False), Told("must be a list of paths, as in [a,b]")
]
Names = Annotated[tuple[Name, ...], Strict(False), Told("must be a list of names, as in [a,b]")]
Some = Annotated[Names, MinLen(1)]
Texts = Annotated[tuple[str, ...], Strict(False), Told("must be a list of texts, as in [a,b]")]

_WHOLE = "must be a whole number of at least"
Count = Annotated[int, Ge(1), Told(f"{_WHOLE} 1"), Le(MOST)]
AutoCount = Annotated[
    Literal["auto"] | Annotated[int, Ge(1), Le(MOST)], Told(f"must be auto, or {_WHOLE[8:]} 1")
]
Several = Annotated[int, Ge(2), Told(f"{_WHOLE} 2"), Le(MOST)]
Whole = Annotated[int, Ge(0), Told(f"{_WHOLE} 0"), Le(MOST)]
Seed = Annotated[int, Ge(0), Lt(2**32), Told("must be a whole number from 0 to 4294967295")]
Positive = Annotated[float, Gt(0), Told("must be a finite number above 0")]
NonNegative = Annotated[float, Ge(0), Told("must be a finite number of at least 0")]
#: of something of which there is some
Share = Annotated[float, Gt(0), Le(1), Told("must be a number in (0, 1]")]
#: of something of which there may be nothing, or all
Fraction = Annotated[float, Ge(0), Le(1), Told("must be a number in [0, 1]")]
#: of something that must not be all
Part = Annotated[float, Ge(0), Lt(1), Told("must be a number in [0, 1)")]

RULES = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@overload
def component(cls: type[T]) -> type[T]: ...
@overload
def component(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def component(cls: type[T] | None = None, *, kw_only: bool = False) -> Any:
    """Make a class a frozen dataclass whose fields are checked by their types.

    Its constructor raises :class:`ValuesError`, which are an :class:`InputError`.
    """

    def make(cls: type[T]) -> type[T]:
        made = pydantic.dataclasses.dataclass(frozen=True, kw_only=kw_only, config=RULES)(cls)
        made.__init__ = _explained(made, made.__init__)  # type: ignore[method-assign]
        return made  # type: ignore[return-value]

    return make if cls is None else make(cls)


def checked(function: Callable[..., T]) -> Callable[..., T]:
    """The same for a function's arguments."""
    return _explained(_Function(function), pydantic.validate_call(config=RULES)(function))


class _Function:
    """A function's arguments as a component has its fields."""

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = get_type_hints(function, include_extras=True)
        self.__pydantic_fields__ = {name: FieldInfo(annotation=hints[name]) for name in hints}


def _explained(owner: Any, call: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(call)
    def explained(*arguments: Any, **keys: Any) -> T:
        try:
            return call(*arguments, **keys)
        except ValidationError as error:
            raise ValuesError(list(_problems(owner.__pydantic_fields__, error))) from None

    return explained


def _problems(fields: Mapping[str, Any], error: ValidationError) -> Iterable[Problem]:
    names = [name for name, field in fields.items() if not field.kw_only]
    for found in error.errors(include_url=False):
        path = tuple(map(str, found["loc"]))
        if path and isinstance(found["loc"][0], int):  # given by position
            path = (names[found["loc"][0]], *path[1:])
        raised = found.get("ctx", {}).get("error")
        if isinstance(raised, ValuesError):
            yield from (p._replace(path=(*path, *p.path)) if p.path else p for p in raised.problems)
        elif isinstance(raised, RefusedError):
            yield Problem((*path, raised.key), raised.value, raised.words)
        elif isinstance(raised, InputError):
            yield Problem((), None, str(raised))
        else:
            words = _words(found, fields)
            optional = len(path) == 1 and _optional(fields.get(path[0]))
            end = ", or null" if optional and "null" not in words else ""
            yield Problem(path, found["input"], words + end)


def _optional(field: Any) -> bool:
    return field is not None and NoneType in get_args(field.annotation)


def _words(found: Any, known: Iterable[str]) -> str:
    """pydantic's errors in the words of this project."""
    kind, context = found["type"], found.get("ctx", {})
    if kind == "missing":
        return MISSING
    if kind == "unexpected_keyword_argument":
        return UNKNOWN + did_you_mean(str(found["loc"][-1]), known)
    if kind == "literal_error":
        return _one_of(found["input"], context["expected"])
    plain = {
        "told": found["msg"],
        "bool_type": "must be true or false",
        "int_type": "must be a whole number",
        "less_than_equal": f"must be at most {context.get('le')}",
        "finite_number": "must be a finite number",
        "dataclass_type": f"must hold the keys of {context.get('class_name')}",
        "dataclass_exact_type": f"must hold the keys of {context.get('class_name')}",
        "mapping_type": "must hold keys and values, as in {a: 1}",
        "dict_type": "must hold keys and values, as in {a: 1}",
    }
    return plain.get(kind, found["msg"][0].lower() + found["msg"][1:])


def _one_of(given: object, expected: str) -> str:
    names = expected.replace("'", "").replace(" or ", ", ").split(", ")
    last = f"{', '.join(names[:-1])} or {names[-1]}" if names[1:] else names[0]
    return f"must be {last}{'.' + hint if (hint := did_you_mean(str(given), names)) else ''}"


def shown(value: object) -> str:
    """A value as it is typed on the command line, cut where it is long."""
    special = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return special[value]
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{key}: {shown(held)}' for key, held in value.items())}}}"
    elif isinstance(value, list | tuple):
        text = f"[{','.join(map(shown, value))}]"
    else:
        text = str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
