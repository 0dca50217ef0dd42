"""Types of the fields of a sweep file, and the problems that their checks report.

Knows nothing of which fields there are.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from orchestrator.errors import suggest
from orchestrator.redact import credentials_in
from tasks.plugins import Registry
from tasks.values import TaskError

T = TypeVar("T")


def problem(message: str) -> PydanticCustomError:
    """A problem whose message is a whole sentence."""
    return PydanticCustomError("problem", "{message}", {"message": message})


def problem_at(key: str, error: PydanticCustomError, found: Any) -> ValidationError:
    """The error of one key of a mapping that pydantic does not check."""
    return ValidationError.from_exception_data("entry", [InitErrorDetails(type=error, loc=(key,), input=found)])


def wanted(description: str) -> WrapValidator:
    """Report `description` instead of pydantic's own messages, such as one line for each branch of a union."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("wanted", "{wanted}", {"wanted": description}) from None

    return WrapValidator(check)


def list_to_tuple(value: Any) -> Any:
    """A YAML list as a tuple, which strict fields need; any other value unchanged."""
    return tuple(value) if isinstance(value, list) else value


def list_of_counts(value: Any) -> Any:
    """As `list_to_tuple`, but a bare number below 1 is reported with both of its problems at once."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise problem(f"found {value}; it should be a list of whole numbers of at least 1, such as [1].")
    return list_to_tuple(value)


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values; refuses an empty list and equal entries."""
    if not values:
        raise problem("the list is empty; it should have at least one entry.")
    met: dict[T, int] = {}
    for i, value in enumerate(values):
        if (first := met.setdefault(value, i)) != i:
            raise problem(f"entries {first} and {i} are the same; remove one.")
    return values


def without_credentials(url: str) -> str:
    """The URL; refuses credentials in it, because tables, pages and messages show it."""
    if message := credentials_in(url):
        raise problem(message)
    return url


def registered(registry: Registry[T], name: object) -> T:
    """What a name of the sweep file stands for.

    Raises:
        PydanticCustomError: when nothing here has the name, or a plug-in that offers it cannot be used.
    """
    if not isinstance(name, str) or name not in registry:
        message = f"no {registry.kind.split()[-1]} is named" if name is None else f"{name!r} is not a {registry.kind}"
        raise problem(f"{message}. {suggest(name, registry)}")
    try:
        return registry[name]
    except TaskError as error:
        raise problem(str(error)) from error


def name_known(registry: Registry[Any]) -> AfterValidator:
    """Refuse a name that stands for nothing in the registry."""

    def check(name: str) -> str:
        registered(registry, name)
        return name

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1, lt=2**31)]
AutoCount = Annotated[Count | Literal["auto"], wanted("a whole number of at least 1, or auto")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100),
    wanted("a text that can name a folder: letters, digits, '.', '_' and '-', with a letter or digit first"),
]


class Entry(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True):
    """A mapping of the sweep file."""
