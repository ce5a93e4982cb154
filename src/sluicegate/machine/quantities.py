"""The kinds of number that options are made of: each says what may be set. Checked where settings are read."""

from typing import Annotated, Any, Final, TypeAlias

from annotated_types import Ge, Gt

Seconds: TypeAlias = Annotated[float, Ge(0)]  # inf is never
SomeSeconds: TypeAlias = Annotated[float, Gt(0)]
Bytes: TypeAlias = Annotated[int, Ge(0)]
Count: TypeAlias = Annotated[int, Ge(1)]
CountOrNone: TypeAlias = Annotated[int, Ge(0)]  # 0 is no bound

# What the settings library reads of a class of options: the text below a field documents it, other names are refused.
DOCUMENTED: Final[dict[str, Any]] = {"use_attribute_docstrings": True, "extra": "forbid"}
