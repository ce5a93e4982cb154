"""Arithmetic on untrusted text: parsed, never evaluated as code, bounded in size."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

MAX_CHARS = 200
MAX_BITS = 4_096

Number = int | float

# Only what this matches gets to Python's parser: no strings, keywords or attributes, whose parsing may warn.
_TOKENS = re.compile(
    r"(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|abs|max|min|round|sqrt|pi|e|[-+*/%^(),]|\s"
)
_KNOWN = "only numbers, + - * / // % **, parentheses, abs, max, min, round, sqrt, pi and e are known"


def _rounded(number: Number, digits: int = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > MAX_CHARS:
        raise ValueError(f"round takes at most {MAX_CHARS} digits")  # Python would compute 10 ** digits
    return round(number, digits) if digits else round(number)


_BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "max": max,
    "min": min,
    "round": _rounded,
    "sqrt": math.sqrt,
}
_CONSTANTS: Mapping[str, Number] = {"pi": math.pi, "e": math.e}


def evaluate(expression: str) -> Number:
    """Return the value of `expression`: numbers, + - * / // % **, parentheses, and a few functions.

    Raises ValueError, in words for whoever wrote it, for everything else, and for what is too large.
    """
    if len(expression) > MAX_CHARS:
        raise ValueError(f"the expression is longer than {MAX_CHARS} characters")
    if _TOKENS.sub("", expression):
        raise ValueError(_KNOWN)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError("the expression is not valid arithmetic") from error
    try:
        return _value(tree.body)
    except ZeroDivisionError as error:
        raise ValueError("division by zero") from error
    except OverflowError as error:
        raise ValueError("the result is too large") from error


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=ast.BitXor(), right=right):
            raise ValueError("^ is not a power; write **")
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _binary(sign, _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _applied(name, [_value(argument) for argument in arguments])
        case _:
            raise ValueError(_KNOWN)


def _binary(sign: ast.operator, left: Number, right: Number) -> Number:
    # Checked before: computing it is what must not happen.
    if (
        isinstance(sign, ast.Pow)
        and isinstance(left, int)
        and isinstance(right, int)
        and abs(left) > 1
        and abs(right) * abs(left).bit_length() > MAX_BITS
    ):
        raise ValueError("the power is too large")
    return _bounded(_BINARY[type(sign)](left, right))


def _applied(name: str, arguments: list[Number]) -> Number:
    try:
        return _bounded(_FUNCTIONS[name](*arguments))
    except TypeError as error:
        raise ValueError(f"{name} does not take these arguments") from error


def _bounded(number: Number) -> Number:
    if isinstance(number, int) and number.bit_length() <= MAX_BITS:
        return number
    if isinstance(number, float) and math.isfinite(number):
        return number
    raise ValueError("the result is too large, or not a real number")
